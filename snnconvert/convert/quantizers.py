"""Quantizers a network brings along: s·(clip(rne(u) + o, low, high) − o) at the end of an elementwise function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from snnconvert.convert.elementwise import Step, elementwise

_ROUND, _ADD, _CLAMP = "aten.round.default", "aten.add.Tensor", "aten.clamp.default"
_SUB, _MUL = "aten.sub.Tensor", "aten.mul.Tensor"
_TAIL = ((_ROUND, 1), (_ADD, 2), (_CLAMP, 3), (_SUB, 2), (_MUL, 2))  # with the number of arguments
_SCALINGS = frozenset({_ADD, _SUB, _MUL, "aten.div.Tensor", "aten.neg.default"})
_RECTIFIER = "aten.relu.default"


@dataclass(frozen=True)
class Grid:
    """The values s·(q − o) of integers q in low..high.

    Attributes:
        step: s.
        zero_point: o.
        low: smallest q.
        high: largest q.
    """

    step: float
    zero_point: int
    low: int
    high: int

    @property
    def offset(self) -> int:
        """How many of its values lie below zero."""
        return self.zero_point - self.low

    @property
    def levels(self) -> int:
        """How many values it has."""
        return self.high - self.low + 1


def grid_of(node: fx.Node) -> Grid | None:
    """The grid a node's function rounds to at its end, or None if it doesn't."""
    program = _program(node)
    if len(program) < len(_TAIL):
        return None
    tail = program[-len(_TAIL) :]
    chained = all(
        tuple(step[1]) == ("value", len(program) - len(_TAIL) + index)
        for index, step in enumerate(tail)
        if isinstance(step[1], (list, tuple))
    )
    if tuple((step[0], len(step) - 1) for step in tail) != _TAIL or not chained:
        return None
    _, raised, clipped, lowered, scaled = tail
    zero, low, high, same_zero, step = raised[2], *clipped[2:], lowered[2], scaled[2]
    whole = all(isinstance(value, (int, float)) and float(value).is_integer() for value in (zero, low, high))
    if not whole or zero != same_zero or not isinstance(step, float) or not step > 0 or not low <= zero <= high:
        return None
    return Grid(step, int(zero), int(low), int(high))


def linear_head(node: fx.Node) -> tuple[float, float] | None:
    """Scale and shift of u(x) in front of a node's rounding, if rounding and clipping is all it does beside.

    A rectifier in front is clipping, too, where the grid has no values below zero. None for anything else.
    """
    program, grid = _program(node), grid_of(node)
    assert grid is not None
    head = program[: -len(_TAIL)]
    rectified = any(step[0] == _RECTIFIER for step in head)
    if any(step[0] not in _SCALINGS and step[0] != _RECTIFIER for step in head):
        return None
    points = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)
    zero, one, *others = (elementwise(points, head) if head else points).tolist()
    scale = one - zero
    is_line = all(
        abs(value - zero - scale * x) <= 1e-9 * abs(scale * x) for x, value in zip((2.0, 5.0), others, strict=True)
    )
    if not is_line or (rectified and (zero != 0 or scale <= 0 or grid.offset != 0)):
        return None
    return scale, zero


def _program(node: fx.Node) -> Sequence[Step]:
    program: Any = node.args[1] if node.target is elementwise else ()
    return program  # type: ignore[no-any-return]
