"""Taps: what a run in time sends along every edge, kept for the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Carrier, Course
from snnconvert.engines.integrator import Integrator, Message
from snnconvert.export.spike_arrays import finest, largest

Json = dict[str, Any]
Array = NDArray[Any]


@dataclass
class Seen:
    """What a node sent in a window.

    Attributes:
        spikes: all steps, of a neuron layer.
        total: of the window, in the type in which it is integrated.
        is_sum: whether it is made of spikes of integer worth by the rules, without analog nodes.
        finest: the largest e ≤ 0 such that every step is a multiple of 2^e.
        reach: Σ over the steps of the largest magnitude.
        constant: largest magnitude of what entered beside the steps.
    """

    spikes: Tensor | None = None
    total: Tensor | None = None
    is_sum: bool = False
    finest: int = 0
    reach: float = 0.0
    constant: float = 0.0


class Tap(Cell):
    """A cell that is listened to."""

    def __init__(self, cell: Cell, course: Course, seen: Seen, sources: Sequence[Seen]) -> None:
        self._cell, self._course, self._seen, self._sources = cell, course, seen, sources

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """What the cell does."""
        return self._cell.tick(tick, inputs)

    def run(self, ticks: Sequence[int], inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:
        """What the cell does; it is kept in short."""
        sent = self._cell.run(ticks, inputs)
        messages = list(sent.values())
        if messages and isinstance(messages[0].values, Tensor):
            self._keep(messages)
        return sent

    def _keep(self, messages: list[Message]) -> None:
        window, seen, carrier = Integrator(self._course), self._seen, self._course.carrier
        parts = [message.values for message in messages]
        constants = [message.constant for message in messages if message.constant is not None]
        for message in messages:
            window.add(message)
        seen.total = window.estimate()
        if carrier is Carrier.SPIKES:
            seen.spikes, seen.is_sum = torch.stack(parts), self._course.is_integer
        elif carrier is Carrier.CURRENT:
            seen.is_sum = self._course.is_integer and all(source.is_sum for source in self._sources)
            seen.finest = min(map(finest, [*parts, *constants]))
            seen.reach, seen.constant = sum(map(largest, parts)), max(map(largest, constants), default=0.0)
