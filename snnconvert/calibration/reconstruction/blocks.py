"""Blocks of a spiking graph: stretches between two places where only membrane potentials or real numbers pass."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from snnconvert.convert.insert import UNIT
from snnconvert.neurons.synapse import Synapse

_MOST_SYNAPSES = 8


@dataclass(frozen=True)
class Block:
    """Consecutive nodes of the spiking graph.

    Attributes:
        nodes: those that compute, in their order.
        inputs: nodes before it whose values it or a later block reads.
        outputs: nodes up to its end whose values a later block reads.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]

    @property
    def synapses(self) -> list[str]:
        """Names of its synapses' modules."""
        return [str(node.target) for node in self.nodes if _is_synapse(node)]

    @property
    def results(self) -> list[fx.Node]:
        """The outputs it computes itself."""
        own = set(self.nodes)
        return [node for node in self.outputs if node in own]


def find_blocks(network: fx.GraphModule, sources: Mapping[str, fx.Node]) -> list[Block]:
    """Cuts a spiking graph where a single value passes; stretches of many synapses where two or more do.

    Args:
        network: the spiking graph; values it can be cut at carry ``meta[UNIT]``.
        sources: nodes of the ANN's graph by name.
    """
    computed = [node for node in network.graph.nodes if node.op not in ("get_attr", "output", "placeholder")]
    # With several inputs, neurons on the first stand in front of the placeholder of the next.
    nodes = [*network.graph.find_nodes(op="placeholder"), *computed]
    live = _live_after(network, nodes)
    batches = _batch_sizes(sources)
    width = [_width(values, sources, batches) for values in live]
    cuts = _cuts(nodes, width, 0, len(nodes), 1)
    edges = [_last_placeholder(nodes), *cuts, len(nodes) - 1]
    blocks = []
    for before, after in itertools.pairwise(edges):
        inside = tuple(nodes[before + 1 : after + 1])
        blocks.append(Block(inside, tuple(live[before]), tuple(live[after])))
    return [block for block in blocks if block.nodes]


def is_batched(node: fx.Node, sources: Mapping[str, fx.Node]) -> bool:
    """Whether a tensor's first dimension is the batch."""
    return _has_batch_first(sources[source_of(node)].meta.get("val"), _batch_sizes(sources))


def source_of(node: fx.Node) -> str:
    """The node of the ANN's graph that a spiking graph's node stands for."""
    return str(node.meta.get("source", node.name))


def _is_synapse(node: fx.Node) -> bool:
    module = node.graph.owning_module
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), Synapse)  # type: ignore[union-attr]


def _last_placeholder(nodes: Sequence[fx.Node]) -> int:
    return max(index for index, node in enumerate(nodes) if node.op == "placeholder")


def _live_after(network: fx.GraphModule, nodes: Sequence[fx.Node]) -> list[list[fx.Node]]:
    """Of each position the nodes up to it that are read behind it, in their order."""
    position = {node: index for index, node in enumerate(nodes)}
    last = {node: max((position.get(user, len(nodes)) for user in node.users), default=-1) for node in nodes}
    live: list[list[fx.Node]] = []
    current: list[fx.Node] = []
    for index, node in enumerate(nodes):
        current = [*(other for other in current if last[other] > index), *([node] if last[node] > index else [])]
        live.append(current)
    del network
    return live


def _batch_sizes(sources: Mapping[str, fx.Node]) -> frozenset[Any]:
    """The symbols of the inputs' first dimensions."""
    values = [node.meta.get("val") for node in sources.values() if node.op == "placeholder"]
    firsts: list[object] = [value.shape[0] for value in values if isinstance(value, torch.Tensor) and value.dim() > 0]
    return frozenset(size.node.expr for size in firsts if isinstance(size, torch.SymInt))


def _has_batch_first(value: object, batches: frozenset[Any]) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and _is_batch(value.shape[0], batches)


def _is_batch(size: object, batches: frozenset[Any]) -> bool:
    return isinstance(size, torch.SymInt) and size.node.expr in batches


def _depends_on_batch(size: object, batches: frozenset[Any]) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.free_symbols.isdisjoint(batches)


def _width(values: Sequence[fx.Node], sources: Mapping[str, fx.Node], batches: frozenset[Any]) -> int | None:
    """How many tensors pass; None where spikes would, or tensors whose batch isn't their first dimension.

    Other sizes may be symbols: all samples have those of the first one.
    """
    count = 0
    for node in values:
        source = sources.get(source_of(node))
        value = None if source is None else source.meta.get("val")
        if isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
            continue
        if not isinstance(value, torch.Tensor) or (node.op != "placeholder" and UNIT not in node.meta):
            return None
        first = 1 if _has_batch_first(value, batches) else 0
        if any(_depends_on_batch(size, batches) for size in value.shape[first:]):
            return None
        count += 1
    return count


def _cuts(nodes: Sequence[fx.Node], width: Sequence[int | None], start: int, end: int, most: int) -> list[int]:
    """Positions between ``start`` and ``end`` to cut behind: each stretch between two holds a synapse or more."""
    if most > 4:
        return []
    found: list[int] = []
    since = 0
    for index in range(start, end):
        since += _is_synapse(nodes[index])
        if since and width[index] is not None and 0 < width[index] <= most:  # type: ignore[operator]
            found.append(index)
            since = 0
    found = [index for index in found if any(_is_synapse(node) for node in nodes[index + 1 : end])]
    edges = [start - 1, *found, end - 1]
    deeper: list[int] = []
    for before, after in itertools.pairwise(edges):
        deeper.append(before)
        if sum(map(_is_synapse, nodes[before + 1 : after + 1])) > _MOST_SYNAPSES:
            deeper += _cuts(nodes, width, before + 1, after + 1, most + 1)
    return deeper[1:]
