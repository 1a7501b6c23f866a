"""The cell of a synapse: integer weights times the spikes of each step, and the check that they are spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, fx

from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Carrier, Course
from snnconvert.engines.integrator import Integrator, Message
from snnconvert.errors import ConversionError
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse


class SynapseWatcher(Protocol):
    """Whoever wants to see, and correct, what a synapse does in a window."""

    def integrated(self, source: str, synapse: Synapse, spikes: list[Tensor], current: Tensor) -> Tensor | None:
        """Called once a synapse has run its window, layer by layer.

        Args:
            source: the synapse's node in the ANN's graph.
            synapse: the synapse.
            spikes: what it read, [N, ...] a step.
            current: the whole window's current, bias included.

        Returns:
            A constant current to add, broadcastable to ``current``; None for none.
        """

    def multiplied(self, source: str, product: Product, spikes: list[Tensor], current: Tensor) -> None:
        """Called once a product of two activations has run its window.

        Args:
            source: its node in the ANN's graph.
            product: the product.
            spikes: what it read on its first side, [N, ...] a step.
            current: the whole window's current.
        """


def check_spikes(layer: str, spikes: Tensor, spike_range: tuple[int, int]) -> None:
    """Refuses anything but integers of the code's range: the network's promise, checked at every step.

    Raises:
        ConversionError: naming the layer.
    """
    low, high = spike_range
    if spikes.dtype not in (torch.uint8, torch.int8):
        raise ConversionError(f"{layer}: a synapse would read {spikes.dtype}, not spikes")
    smallest, largest = (int(bound) for bound in torch.aminmax(spikes)) if spikes.numel() else (0, 0)
    if smallest < low or largest > high:
        raise ConversionError(
            f"{layer}: a synapse would read spikes {smallest}..{largest}, its code fires {low}..{high}"
        )


class SynapseCell(Cell):
    """A synapse: weights times the spikes of each step, the bias once."""

    def __init__(
        self, node: fx.Node, source: str, synapse: Synapse, course: Course, watcher: SynapseWatcher | None
    ) -> None:
        assert course.spike_range is not None
        self._layer = str(node.meta.get("layer", node.name))
        self._origin = str(node.meta.get("source", node.name))
        self._source, self._synapse, self._course, self._watcher = source, synapse, course, watcher
        self._range = course.spike_range
        self._wide = not synapse.holds_spikes(*self._range)

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """W·s_t, less W times the spikes' resting values; with the first spikes the bias."""
        message = inputs[self._source]
        if message is None:
            return None
        self._check(message.values)
        if self._course.rests_each_step:
            current = self._synapse.integrate(message.values, message.constant, wide=self._wide)
            return Message(current, self._bias(current) if tick == self._course.start else None)
        current = self._synapse.integrate(message.values, wide=self._wide)
        return Message(current, self._resting_bias(message, current) if tick == self._course.start else None)

    def run(self, ticks: Sequence[int], inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:
        """All steps as one batch where they have no resting values."""
        sent = self._run(ticks, inputs)
        if self._watcher is not None:
            self._show(self._watcher, [message.values for message in inputs[self._source].values()], sent)
        return sent

    def _show(self, watcher: SynapseWatcher, spikes: list[Tensor], sent: dict[int, Message]) -> None:
        window = Integrator(self._course.carrying(Carrier.CURRENT))
        for message in sent.values():
            window.add(message)
        added = watcher.integrated(self._origin, self._synapse, spikes, window.estimate())
        if added is not None:
            first = min(sent)
            values, constant = sent[first]
            sent[first] = Message(values, added if constant is None else constant + added)

    def _run(self, ticks: Sequence[int], inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:
        messages = inputs[self._source]
        if any(message.constant is not None for message in messages.values()):
            return super().run(ticks, inputs)
        spikes = torch.cat([message.values for message in messages.values()])
        self._check(spikes)
        currents = self._synapse.integrate(spikes, wide=self._wide).chunk(len(messages))
        sent = {tick: Message(current) for tick, current in zip(messages, currents, strict=True)}
        first = min(sent)
        sent[first] = Message(sent[first].values, self._bias(sent[first].values))
        return sent

    def _check(self, spikes: Tensor) -> None:
        check_spikes(self._layer, spikes, self._range)

    def _bias(self, current: Tensor) -> Tensor:
        return self._synapse.bias_current(current.dim())

    def _resting_bias(self, message: Message, current: Tensor) -> Tensor:
        bias = self._bias(current)
        if message.constant is None:
            return bias
        return bias - self._synapse.integrate(message.constant, wide=True).double()
