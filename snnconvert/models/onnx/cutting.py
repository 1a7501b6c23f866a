"""A graph cut to some of its values: what they don't depend on is dropped before anything is read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto

from snnconvert.errors import InputError
from snnconvert.models.onnx.attributes import subgraphs


def cut(graph: GraphProto, outputs: Sequence[str], file: str) -> None:
    """Makes the named values the graph's outputs, and drops nodes and inputs that they don't need.

    Args:
        graph: changed in place.
        outputs: names of values that nodes compute.
        file: the file's name, for messages.

    Raises:
        InputError: if there are none, or no node computes one of them.
    """
    makers = {name: node for node in graph.node for name in node.output if name}
    for name in outputs:
        if name not in makers:
            near = ", ".join(difflib.get_close_matches(name, makers, n=3)) or "none is near"
            raise InputError(f"{file}: no node computes '{name}' (near matches: {near}): name values of the file")
    if not outputs or len(set(outputs)) < len(outputs):
        raise InputError(f"{file}: name one or more values of the file, each once")
    needed, wanted = set[str](), list(outputs)
    while wanted:
        name = wanted.pop()
        if name not in needed:
            needed.add(name)
            wanted.extend(_reads(makers[name]) if name in makers else ())
    _keep(graph.node, [node for node in graph.node if needed.intersection(node.output)])
    given = {item.name for item in graph.initializer}
    _keep(graph.initializer, [item for item in graph.initializer if item.name in needed])
    _keep(graph.input, [item for item in graph.input if item.name in needed | given])
    _keep(graph.output, [ValueInfoProto(name=name) for name in outputs])


def in_front_of(graph: GraphProto, refused: Collection[int]) -> list[str]:
    """The values, computed from inputs, that some nodes and all that follows them read from the rest.

    Args:
        graph: the graph.
        refused: indices of nodes.
    """
    given = {item.name for item in graph.initializer}
    computed = {item.name for item in graph.input if item.name not in given}
    behind: set[str] = set()
    found: dict[str, None] = {}
    for index, node in enumerate(graph.node):
        reads = _reads(node)
        if index in refused or behind.intersection(reads):
            behind.update(node.output)
            found.update(dict.fromkeys(name for name in reads if name in computed and name not in behind))
        elif computed.intersection(reads):
            computed.update(node.output)
    made = {name for node in graph.node for name in node.output}
    return [name for name in found if name in made]


def _reads(node: NodeProto) -> list[str]:
    """What a node reads, inside its branches as well."""
    return [*(name for name in node.input if name), *_read_inside(node.attribute)]


def _read_inside(attributes: Iterable[AttributeProto]) -> list[str]:
    return [name for graph in subgraphs(attributes) for node in graph.node for name in _reads(node)]


def _keep(field: Any, items: Sequence[Message]) -> None:
    """Replaces a repeated field's items; copies, for the field owns what it held."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)
