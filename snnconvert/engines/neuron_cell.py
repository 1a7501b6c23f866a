"""The cell of a neuron layer: integrates what arrives and fires, step by step."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Course
from snnconvert.engines.integrator import Integrator, Message, as_current
from snnconvert.neurons.neuron import SpikingNeuron


class Observer(Protocol):
    """Whoever wants to see what neurons do."""

    def fired(self, layer: str, step: int, spikes: Tensor, potential: Tensor) -> None:
        """Called after every step of every neuron layer.

        Args:
            layer: its name.
            step: 0..T−1.
            spikes: uint8 or int8 [N, ...].
            potential: float64 membrane potential after the reset, in steps Δ of the code.
        """

    def finished(self, layer: str, fired: Tensor, expected: Tensor) -> None:
        """Called when a layer's window is over.

        Args:
            layer: its name.
            fired: values of the spike trains, in Δ, float64.
            expected: what the closed form gives for the same total current.
        """


class NeuronCell(Cell):
    """A layer of neurons in time.

    It streams if its output starts with its input; otherwise it waits for the whole window. The drive
    of one step is, for a code that streams, T times the step's current (a bias enters at every step
    with its T-th part); for one that doesn't, the whole current at its first step.
    """

    def __init__(
        self, layer: str, source: str, neuron: SpikingNeuron, before: Course, after: Course, observer: Observer | None
    ) -> None:
        self._layer, self._source, self._neuron, self._observer = layer, source, neuron, observer
        self._before, self._after = before, after
        self._streams = after.start == before.start
        self._integrator = Integrator(before)
        self._state: Any = None
        self._fired = torch.zeros((), dtype=torch.int32)
        self._scale: Tensor | float = 1.0
        self._constant: Tensor | None = None
        self._told: Tensor | float = 0.0
        self._drive: Tensor | None = None
        self._total: Tensor | float = 0.0
        self._value = torch.zeros((), dtype=torch.float64)
        self._step = 0

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """Integrates this tick's current; fires where the window's spikes are due."""
        message = inputs[self._source]
        if self._streams:
            return None if message is None else self._fire(self._streamed(message))
        if message is not None:
            self._integrator.add(message)
        if not self._after.start <= tick < self._after.end:
            return None
        return self._fire(self._held())

    def _streamed(self, message: Message) -> Tensor:
        """T times this step's current, in Δ: T·x_t + c, or t·E_t − (t−1)·E_{t−1} of running estimates E_t."""
        if self._before.extrapolates:
            values, constant = as_current(message, self._before)
            if self._step == 0:
                self._scale = self._neuron.gain.double() * self._before.steps
                self._constant = self._neuron.constant_in_steps(constant)
            current = values.to(torch.float64, copy=True).mul_(self._scale)
            return current if self._constant is None else current.add_(self._constant)
        self._integrator.add(message)
        told = self._integrator.estimate().double() * self._integrator.arrived
        current, self._told = told - self._told, told
        return self._neuron.in_steps(current)

    def _held(self) -> Tensor | None:
        """The whole window's current, in Δ; for a packed code only once."""
        if self._step > 0:
            return self._drive if self._neuron.code.streams else None
        drive = self._neuron.window_in_steps(self._integrator.estimate()).double()
        self._drive = drive.clamp_(max=self._neuron.ceiling) if self._neuron.is_capped else drive
        return self._drive

    def _fire(self, drive: Tensor | None) -> Message:
        code = self._neuron.code
        if self._state is None and drive is not None:
            self._state = code.initial(drive)
        spikes, self._state = code.coast(self._state) if drive is None else code.step(drive, self._state)
        if self._streams and self._neuron.is_capped:
            spikes = self._saturated(spikes)
        rest = self._rest(spikes, code.rests[self._step])
        if self._observer is not None:
            self._observe(self._observer, drive, spikes)
        self._step += 1
        return Message(spikes.contiguous(memory_format=torch.channels_last) if spikes.dim() == 4 else spikes, rest)

    def _saturated(self, spikes: Tensor) -> Tensor:
        """Spikes that keep the window's count at or below the ceiling: a capped rectifier's neurons fall silent."""
        room = self._neuron.ceiling + self._neuron.code.offset - self._fired
        spikes = torch.minimum(spikes.to(torch.int32), room.to(torch.int32)).to(spikes.dtype)
        self._fired = self._fired + spikes
        return spikes

    def _rest(self, spikes: Tensor, value: int) -> Tensor | None:
        if value == 0:
            return None
        return torch.full(spikes[:1].shape, float(value), device=spikes.device)

    def _observe(self, observer: Observer, drive: Tensor | None, spikes: Tensor) -> None:
        code = self._neuron.code
        scale = 1.0 / code.T if code.streams else 1.0
        observer.fired(self._layer, self._step, spikes, self._state.potential * scale)
        if drive is not None:
            self._total = drive + self._total
        self._value = self._value * code.growth[self._step] + spikes.double()
        if self._step == code.T - 1:
            assert isinstance(self._total, Tensor)
            expected = code.quantize_(self._total / (code.T if code.streams else 1), self._neuron.ceiling)
            observer.finished(self._layer, code.decoded(self._value), expected)


class FrameCell(Cell):
    """The input's neurons on event frames: each frame is one spike of a whole window's range, rounded and clipped."""

    def __init__(
        self, layer: str, source: str, neuron: SpikingNeuron, course: Course, observer: Observer | None
    ) -> None:
        self._layer, self._source, self._neuron, self._observer = layer, source, neuron, observer
        self._steps, self._step = course.steps, 0

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """The frame in steps of the code, with its offset added."""
        message = inputs[self._source]
        if message is None:
            return None
        code = self._neuron.code
        exact = self._neuron.in_steps(message.values)
        values = code.quantize_(exact.clone(), self._neuron.ceiling)
        spikes = (values + code.offset).to(torch.int8 if code.signed else torch.uint8)
        if self._observer is not None:
            self._observer.fired(self._layer, self._step, spikes, (exact - values).double())
        first = self._step == 0 and code.offset
        rest = torch.full(spikes[:1].shape, float(code.offset * self._steps), device=spikes.device) if first else None
        self._step += 1
        return Message(spikes, rest)
