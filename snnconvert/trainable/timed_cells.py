"""Differentiable cells: synapses and neurons that run a whole window of steps, with real parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Course
from snnconvert.engines.integrator import Integrator, Message, as_current
from snnconvert.engines.product_cell import ProductCell
from snnconvert.neurons.integrate_and_fire import CountingCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.membrane import Membrane, fired_in_time
from snnconvert.trainable.neuron import TrainableNeuron
from snnconvert.trainable.straight_through import replaced
from snnconvert.trainable.synapse import TrainableSynapse
from snnconvert.trainable.train_of_steps import Train, stacked

Window = Mapping[int, Message]


class WindowCell(Cell):
    """A cell that takes its source's whole window at once; there are no ticks in training."""

    source: str

    def tick(self, tick: int, _: Inputs) -> Message | None:
        """Refused.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"a network in training runs layer by layer, it has no tick {tick}")

    def run(self, _: Sequence[int], inputs: Mapping[str, Window]) -> dict[int, Message]:
        """All that leaves it."""
        return self.whole(inputs[self.source])

    @abstractmethod
    def whole(self, messages: Window) -> dict[int, Message]:
        """What leaves it for a window of its source."""


class ConstantWindow(WindowCell):
    """A window cell whose source is a constant of the network."""

    def __init__(self, inner: WindowCell, start: int, constant: Any) -> None:
        self._inner, self._constant = inner, {start: Message(constant)}

    def run(self, _: Sequence[int], __: Mapping[str, Window]) -> dict[int, Message]:
        """The inner cell's window."""
        return self.whole(self._constant)

    def whole(self, messages: Window) -> dict[int, Message]:
        """The inner cell's."""
        return self._inner.whole(messages)


class SynapseWindow(WindowCell):
    """Currents of all steps as one batch: k·m'·s_t, with the first one c·m'."""

    def __init__(self, source: str, synapse: TrainableSynapse, course: Course) -> None:
        self.source, self._synapse, self._course = source, synapse, course

    def whole(self, messages: Window) -> dict[int, Message]:
        """Messages of the same ticks."""
        spikes = stacked(messages)
        weight, bias = self._synapse.scaled()
        flat = self._current(spikes.flatten(0, 1), weight)
        currents = flat.view(*spikes.shape[:2], *flat.shape[1:])
        rests = [message.constant for message in messages.values()]
        entering = self._synapse.synapse.channelwise(bias.double(), currents.dim() - 1)
        if self._course.rests_each_step:
            resting = [None if rest is None else self._current(rest, weight) for rest in rests]
            if any(rest is not None for rest in resting):
                steps = [
                    current if rest is None else current - rest for current, rest in zip(currents, resting, strict=True)
                ]
                currents = torch.stack(steps)
        elif rests[0] is not None:
            entering = entering - self._current(rests[0].double(), weight.double())
        return Train(list(messages), currents, [entering, *[None] * (len(messages) - 1)])

    def _current(self, spikes: Tensor, weight: Tensor) -> Tensor:
        current = self._synapse.synapse.with_weights(weight, None, spikes)
        return current.double() if self._synapse.synapse.wide else current


class NeuronWindow(WindowCell):
    """A layer of neurons over a window; see :class:`~snnconvert.engines.neuron_cell.NeuronCell`."""

    def __init__(
        self,
        source: str,
        form: TrainableNeuron,
        before: Course,
        after: Course,
        gradients: Gradients,
        *,
        smoothed: bool = False,
    ) -> None:
        self.source, self._form, self._before, self._after = source, form, before, after
        self._streams = after.start == before.start
        self._gradients, self._smoothed = gradients, smoothed

    def whole(self, messages: Window) -> dict[int, Message]:
        """Spikes of T ticks from the layer's start on."""
        form, code = self._form, self._form.neuron.code
        form.count(next(iter(messages.values())).values)
        if isinstance(code, CountingCode):
            live = _as_they_are(form)
            spikes = self._streamed(live, messages) if self._streams else self._held(live, messages)
            for watcher in form.watchers:
                watcher(spikes.sum(0) - code.offset)
        else:
            spikes = self._digits(messages)
        rests = [
            torch.full(spikes.shape[1:], float(rest), device=spikes.device)[:1] if rest else None for rest in code.rests
        ]
        return Train(range(self._after.start, self._after.end), spikes, rests)

    def _streamed(self, neuron: SpikingNeuron, messages: Window) -> Tensor:
        if self._before.extrapolates:
            parts = messages if isinstance(messages, Train) else self._currents(messages)
            (first, *_) = parts.values()
            constant = neuron.constant_in_steps(first.constant)
            return self._fire(neuron, stacked(parts), neuron.gain.double() * self._before.steps, constant)
        integrator, told, drives = Integrator(self._before), torch.zeros(()), []
        for message in messages.values():
            integrator.add(message)
            total = integrator.estimate().double() * integrator.arrived
            drives.append(neuron.in_steps(total - told))
            told = total
        return self._fire(neuron, torch.stack(drives), drives[0].new_ones(()), None)

    def _currents(self, messages: Window) -> Window:
        return {tick: as_current(message, self._before) for tick, message in messages.items()}

    def _held(self, neuron: SpikingNeuron, messages: Window) -> Tensor:
        drive = neuron.window_in_steps(self._whole_window(messages)).double()
        drive = drive.clamp(max=neuron.ceiling) if neuron.is_capped else drive
        return self._fire(neuron, drive.expand(neuron.code.T, *drive.shape), drive.new_ones(()), None)

    def _fire(self, neuron: SpikingNeuron, currents: Tensor, scale: Tensor, constant: Tensor | None) -> Tensor:
        code = neuron.code
        assert isinstance(code, CountingCode)
        most = float(neuron.ceiling + code.offset) if self._streams and neuron.is_capped else None
        membrane = Membrane(code, self._gradients, most, self._smoothed)
        return fired_in_time(currents, scale, constant, membrane, self._form.threshold.dtype)

    def _digits(self, messages: Window) -> Tensor:
        """Digits of a word; the gradient of the word, to which the last one adds with weight one, goes to that one."""
        neuron = self._form.neuron
        window = self._whole_window(messages)
        word = self._form(window)
        with torch.no_grad():
            drive = _as_they_are(self._form).window_in_steps(window).double().clamp(max=neuron.ceiling)
            digit, state = neuron.code.step(drive, neuron.code.initial(drive))
            digits = [digit]
            for _ in range(neuron.code.T - 1):
                digit, state = neuron.code.coast(state)
                digits.append(digit)
            values = [digit.to(word.dtype) for digit in digits]
        return torch.stack([*values[:-1], replaced(word, values[-1])])

    def _whole_window(self, messages: Window) -> Tensor:
        integrator = Integrator(self._before)
        for message in messages.values():
            integrator.add(message)
        return integrator.estimate()


def _as_they_are(form: TrainableNeuron) -> SpikingNeuron:
    """Neurons with the gain and bias learned so far, which keep their gradients and type."""
    before, gain, bias = form.neuron, form.gain(), form.bias()
    neuron = SpikingNeuron(before.code, gain, before.step, bias, ceiling=before.ceiling)
    neuron.gain, neuron.bias = gain, bias
    return neuron


class DifferentiableProduct(ProductCell):
    """A product of two activations whose spikes are real numbers with gradients."""

    def _check(self, spikes: Tensor, course: Course) -> None:
        del spikes, course
