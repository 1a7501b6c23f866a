"""Nodes in an order in which every value is computed before it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from onnx import GraphProto, NodeProto

from snnconvert.errors import InputError
from snnconvert.models.onnx.attributes import subgraphs


def reads_of(node: NodeProto) -> set[str]:
    """Names a node reads from the graph around it, those its subgraphs read included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node.attribute):
        names |= _free_names(graph)
    return names


def _free_names(graph: GraphProto) -> set[str]:
    """Names that a graph reads and doesn't define."""
    own = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    reads = {item.name for item in graph.output}
    for node in graph.node:
        reads |= reads_of(node)
    return reads - own


def ordered(nodes: Iterable[NodeProto], known: Iterable[str], where: str, *, nested: bool = False) -> list[NodeProto]:
    """The nodes of one graph, sorted so that each reads only what is known or computed before it.

    Args:
        nodes: The nodes.
        known: Values that exist before any node runs.
        where: The file and the graph, for messages.
        nested: Whether names may also come from a graph around this one, which reads of subgraphs can't tell.

    Raises:
        InputError: if a value is computed twice, never computed, or needs itself.
    """
    listed, available = list(nodes), set(known)
    producers = _producers(listed, available, where)
    reads = [reads_of(node) for node in listed]
    waiting: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(listed):
        missing = reads[index] - available - producers.keys()
        if missing and not nested:
            raise InputError(
                f"{where}: {node.op_type} '{node.name or _first(node)}' reads '{min(missing)}', "
                "which nothing computes: the file is damaged, export it again"
            )
        sources = {producers[name] for name in reads[index] if name in producers}
        waiting.append(len(sources))
        for source in sources:
            readers.setdefault(source, []).append(index)
    return _sorted(listed, waiting, readers, where)


def _producers(nodes: list[NodeProto], available: set[str], where: str) -> dict[str, int]:
    producers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in producers or name in available):
                raise InputError(f"{where}: the value '{name}' is defined twice: the file is damaged, export it again")
            if name:
                producers[name] = index
    return producers


def _sorted(nodes: list[NodeProto], waiting: list[int], readers: dict[int, list[int]], where: str) -> list[NodeProto]:
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    done: list[int] = []
    while ready:
        index = ready.popleft()
        done.append(index)
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(done) < len(nodes):
        stuck = nodes[min(set(range(len(nodes))) - set(done))]
        raise InputError(
            f"{where}: {stuck.op_type} '{stuck.name or _first(stuck)}' is part of a cycle or behind one: "
            "the file is damaged, export it again"
        )
    return [nodes[index] for index in done]


def _first(node: NodeProto) -> str:
    return node.output[0] if node.output else ""
