"""Cells: one node of a spiking graph, run tick by tick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from snnconvert.engines.course import Carrier, Course
from snnconvert.engines.integrator import Integrator, Message, as_current
from snnconvert.errors import ConversionError
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.synapse import Synapse

Inputs = Mapping[str, Message | None]
Function = Callable[[Mapping[str, Any]], Any]


class Cell(ABC):
    """One node: takes what arrives at a tick and gives what leaves it."""

    @abstractmethod
    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """One tick.

        Args:
            tick: its number.
            inputs: what each source node sent at this tick, None from those that are silent.

        Returns:
            What the node sends at this tick, None if it is silent.
        """

    def run(self, ticks: Sequence[int], inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:
        """All ticks of a window at once, given everything its sources sent."""
        sent: dict[int, Message] = {}
        for tick in ticks:
            message = self.tick(tick, {name: messages.get(tick) for name, messages in inputs.items()})
            if message is not None:
                sent[tick] = message
        return sent


class Call:
    """A node's function with its sources left open."""

    def __init__(self, node: fx.Node, statics: Mapping[str, Any]) -> None:
        self._node, self._statics = node, statics
        assert callable(node.target)
        self._function: Callable[..., Any] = node.target

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The function of these values; sources that aren't given are static."""

        def filled(source: fx.Node) -> Any:
            return values[source.name] if source.name in values else self._statics[source.name]

        args, kwargs = fx.map_arg((self._node.args, self._node.kwargs), filled)
        return self._function(*args, **kwargs)


class LinearCell(Cell):
    """A linear operation, step by step: layouts, scales, pools, sums of values that arrive together."""

    def __init__(self, function: Function, courses: Mapping[str, Course], *, keeps_spikes: bool) -> None:
        self._function, self._courses, self._keeps_spikes = function, courses, keeps_spikes

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """Computes f(x_t), and f of the constants."""
        arrived = {name: message for name, message in inputs.items() if message is not None}
        if not arrived:
            return None
        if not self._keeps_spikes:
            arrived = {name: as_current(message, self._courses[name]) for name, message in arrived.items()}
        constant = None
        if any(message.constant is not None for message in arrived.values()):
            constant = self._function({name: _expanded(message) for name, message in arrived.items()})
        return Message(self._function({name: message.values for name, message in arrived.items()}), constant)


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
        """Refuses anything but integers of the code's range: the network's promise, checked at every step."""
        low, high = self._range
        if spikes.dtype not in (torch.uint8, torch.int8):
            raise ConversionError(f"{self._layer}: a synapse would read {spikes.dtype}, not spikes")
        smallest, largest = (int(bound) for bound in torch.aminmax(spikes)) if spikes.numel() else (0, 0)
        if smallest < low or largest > high:
            raise ConversionError(
                f"{self._layer}: a synapse would read spikes {smallest}..{largest}, its code fires {low}..{high}"
            )

    def _bias(self, current: Tensor) -> Tensor:
        return self._synapse.bias_current(current.dim())

    def _resting_bias(self, message: Message, current: Tensor) -> Tensor:
        bias = self._bias(current)
        if message.constant is None:
            return bias
        return bias - self._synapse.integrate(message.constant, wide=True).double()


class JoinCell(Cell):
    """Adds or concatenates values of different timing: each in a compartment of its own, then the totals."""

    def __init__(self, function: Function, courses: Mapping[str, Course]) -> None:
        self._function = function
        self._parts = {name: Integrator(course) for name, course in courses.items()}
        self._last = max(course.end for course in courses.values()) - 1

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """Nothing until the last operand is complete, then f of all totals."""
        for name, part in self._parts.items():
            message = inputs[name]
            if message is not None:
                part.add(message)
        if tick != self._last:
            return None
        return Message(self._function({name: part.estimate() for name, part in self._parts.items()}))


class DelayCell(Cell):
    """Concatenates spikes that start at different ticks: earlier ones wait in a delay line."""

    def __init__(self, function: Function, courses: Mapping[str, Course], course: Course) -> None:
        self._course = course
        self._joined = LinearCell(function, courses, keeps_spikes=True)
        self._waiting: dict[str, deque[Message]] = {name: deque() for name in courses}

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """The function of the next spikes of every source, from the latest source's start on."""
        for name, waiting in self._waiting.items():
            message = inputs[name]
            if message is not None:
                waiting.append(message)
        if not self._course.start <= tick < self._course.end:
            return None
        arrived = {name: waiting.popleft() for name, waiting in self._waiting.items()}
        return self._joined.tick(tick, arrived)


class MaxPoolCell(Cell):
    """Max-pooling of potentials: of the whole window's, or of its running estimate's changes."""

    def __init__(self, function: Function, source: str, before: Course, after: Course) -> None:
        self._function, self._source, self._after = function, source, after
        self._integrator = Integrator(before)
        self._told: Tensor | None = None

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """The total's max, once; or what max tells more than it told before, as rate-coded current.

        With estimates E_t of the total, M_t = max E_t: (t·M_t − (t−1)·M_{t−1}) / T, which adds up to M_T.
        """
        message = inputs[self._source]
        if message is None:
            return None
        self._integrator.add(message)
        if self._after.steps == 1:
            done = self._integrator.is_complete
            return Message(self._function({self._source: self._integrator.estimate()})) if done else None
        share = self._integrator.arrived / self._after.steps
        told = self._function({self._source: self._integrator.estimate()}) * share
        change = told if self._told is None else told - self._told
        self._told = told
        return Message(change)


class ToRealCell(Cell):
    """Potentials in the ANN's units, at the end of the window or as an estimate at every step."""

    def __init__(self, source: str, module: ToReal, before: Course, after: Course) -> None:
        self._source, self._module, self._after = source, module, after
        self._integrator = Integrator(before)

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """u·v."""
        message = inputs[self._source]
        if message is None:
            return None
        self._integrator.add(message)
        if not self._after.start <= tick < self._after.end:
            return None
        return Message(self._module(self._integrator.estimate()))


class RealCell(Cell):
    """A function of real numbers, of the latest value of every source."""

    def __init__(self, function: Function, sources: Sequence[str], course: Course) -> None:
        self._function, self._course = function, course
        self._latest: dict[str, Any] = {}
        self._sources = tuple(sources)
        self._result: Any = None

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """Computes f again when something new has arrived."""
        arrived = {name: message.values for name in self._sources if (message := inputs[name]) is not None}
        self._latest.update(arrived)
        if not self._course.start <= tick < self._course.end:
            return None
        if arrived or self._result is None:
            self._result = self._function(self._latest)
        return Message(self._result)


class StaticCell(Cell):
    """Sizes of what arrives."""

    def __init__(self, function: Function, statics: dict[str, Any], name: str) -> None:
        self._function, self._statics, self._name = function, statics, name

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """Evaluates itself as soon as its sources are there, for good."""
        arrived = {name: message.values for name, message in inputs.items() if message is not None}
        if self._name not in self._statics and len(arrived) == len(inputs):
            self._statics[self._name] = self._function(arrived)
        return None


def _expanded(message: Message) -> Any:
    """A message's constant, zero if it has none, in the shape of its values."""
    values, constant = message
    if isinstance(values, (tuple, list)):
        parts = constant if constant is not None else [None] * len(values)
        return [_expanded(Message(value, part)) for value, part in zip(values, parts, strict=True)]
    kind = values.dtype if values.is_floating_point() else torch.float32
    if constant is None:
        return torch.zeros_like(values, dtype=kind)
    return constant.to(kind).expand_as(values)
