"""Parts of a tensor as slices of it: what runtimes cut bytes by."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import fx

aten = torch.ops.aten
_BY_SIZES = frozenset({aten.split_with_sizes.default, aten.unsafe_split_with_sizes.default})
_BY_SIZE = frozenset({aten.split.Tensor, aten.unsafe_split.Tensor})


def split_as_slices(network: fx.GraphModule) -> fx.GraphModule:
    """A graph in which every part of a split with sizes known in advance is a slice of what is split.

    onnxruntime has no kernel for the sequences of bytes as which torch exports splits.

    Args:
        network: a spiking graph; it is left as it is, and shares its modules.
    """
    graph = fx.Graph()
    results = graph.graph_copy(network.graph, {})
    graph.output(results)
    for node in list(graph.nodes):
        if node.op != "call_function" or node.kwargs or any(user.target is not operator.getitem for user in node.users):
            continue
        bounds = _bounds(node)
        if bounds is None:
            continue
        dimension = node.args[2] if len(node.args) > 2 else 0
        for part in list(node.users):
            first, last = bounds[_place(part)]
            part.target, part.args = aten.slice.Tensor, (node.args[0], dimension, first, last)
        graph.erase_node(node)
    sliced = fx.GraphModule(network, graph)
    sliced.graph.lint()
    return sliced


def _bounds(node: fx.Node) -> Sequence[tuple[int, int]] | None:
    """Where each part of a split begins and ends; None of other nodes, and where sizes are symbols."""
    if node.target in _BY_SIZES and isinstance(node.args[1], Sequence):
        sizes = [size for size in node.args[1] if isinstance(size, int)]
        return list(pairwise(accumulate(sizes, initial=0))) if len(sizes) == len(node.args[1]) else None
    if node.target in _BY_SIZE and isinstance(size := node.args[1], int):
        parts = 1 + max((_place(part) for part in node.users), default=0)
        return [(place * size, (place + 1) * size) for place in range(parts)]
    return None


def _place(part: fx.Node) -> int:
    place = part.args[1]
    assert isinstance(place, int)
    return place
