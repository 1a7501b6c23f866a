"""split(x, sizes)[i] = x[begin_i:end_i], and so do chunks: parts of a tensor as slices of it. Holds exactly."""

from __future__ import annotations

import operator
from itertools import accumulate, pairwise

import torch
from torch import Tensor, fx

from snnconvert.convert.arguments import as_int, as_node
from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten
_SPLITS = frozenset(
    {
        aten.split.Tensor, aten.unsafe_split.Tensor, aten.split_with_sizes.default,
        aten.unsafe_split_with_sizes.default, aten.chunk.default, aten.unsafe_chunk.default,
    }
)  # fmt: skip


def lower_splits(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites every part of a split of known sizes to a slice."""
    for node in list(graph_module.graph.nodes):
        if node.target in _SPLITS and all(user.target is operator.getitem for user in node.users):
            _cut(graph_module, node)
    return tidy(graph_module)


def _cut(graph_module: fx.GraphModule, node: fx.Node) -> None:
    source, dim = as_node(node.args[0]), _dim(node)
    sizes = [part.shape[dim] for part in node.meta["val"]]
    if not all(isinstance(size, int) for size in sizes):
        return
    bounds = list(pairwise(accumulate(sizes, initial=0)))
    for part in list(node.users):
        first, last = bounds[as_int(part.args[1])]
        builder = Builder(graph_module, part)
        builder.replace(builder.call(aten.slice.Tensor, source, dim, first, last))


def _dim(node: fx.Node) -> int:
    value = as_node(node.args[0]).meta["val"]
    assert isinstance(value, Tensor)
    return as_int(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % value.dim()
