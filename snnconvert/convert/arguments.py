"""Operator arguments read from graph nodes, with their defaults filled in and their types checked."""

from __future__ import annotations

import sys
from typing import Any

from torch import fx


def with_defaults(node: fx.Node, *defaults: Any) -> tuple[Any, ...]:
    """The node's positional arguments after the first, missing ones replaced by defaults."""
    given = list(node.args[1:])
    return tuple(given) + tuple(defaults[len(given) :])


def as_int(value: Any) -> int:
    """An argument that must be a plain integer.

    Raises:
        TypeError: if it isn't, for example a symbolic size.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value


def as_ints(value: Any, rank: int) -> tuple[int, ...]:
    """A size argument as ``rank`` integers: one number or a list of one stands for all."""
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return tuple(as_int(item) for item in (items if len(items) == rank else items * rank))


def as_node(value: object) -> fx.Node:
    """An argument that is a tensor of the graph."""
    assert isinstance(value, fx.Node)
    return value


def takes_all(start: object, end: object) -> bool:
    """Whether a slice from start to end, in steps of one, leaves out nothing whatever the size is."""
    return start in (None, 0) and end in (None, sys.maxsize)
