"""Cells: one node of a spiking graph, run tick by tick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.engines.course import Course
from snnconvert.engines.integrator import Integrator, Message, as_current

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
        self.target: Callable[..., Any] = node.target

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The function of these values; sources that aren't given are static."""

        def filled(source: fx.Node) -> Any:
            return values[source.name] if source.name in values else self._statics[source.name]

        args, kwargs = fx.map_arg((self._node.args, self._node.kwargs), filled)
        return self.target(*args, **kwargs)


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
        told = self._function({self._source: self._integrator.share()})
        change = told if self._told is None else told - self._told
        self._told = told
        return Message(change)


class ToRealCell(Cell):
    """A function of potentials (the ANN's units, a transfer), at the end of the window or as a running estimate."""

    def __init__(self, source: str, module: nn.Module, before: Course, after: Course) -> None:
        self._source, self._module, self._after = source, module, after
        self._integrator = Integrator(before)

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """f(v)."""
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


class ConstantCell(Cell):
    """A cell whose source is a constant of the network."""

    def __init__(self, inner: Cell, source: str, statics: Mapping[str, Any]) -> None:
        self._inner, self._source, self._statics = inner, source, statics
        self._has_arrived = False

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """The inner cell's tick; the constant arrives at the first one."""
        arrived = None if self._has_arrived else Message(self._statics[self._source])
        self._has_arrived = True
        return self._inner.tick(tick, {self._source: arrived})


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
