"""x[:, i] = index_select(x, 1, i) for constant positions i, truth values or repetitions, and pools without indices.

Holds exactly.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

from snnconvert.convert.arguments import as_int
from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import constant_of, tidy

aten = torch.ops.aten
_INDEXED_POOLS: dict[object, object] = {
    aten.max_pool1d_with_indices.default: aten.max_pool1d.default,
    aten.max_pool2d_with_indices.default: aten.max_pool2d.default,
    aten.max_pool3d_with_indices.default: aten.max_pool3d.default,
}


def lower_indexing(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites indexing by one constant vector, constant repetitions, and max-pools whose indices nobody reads."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.index.Tensor:
            _lower_index(graph_module, node)
        elif node.target is aten.repeat_interleave.self_Tensor:
            _lower_repetition(graph_module, node)
        elif node.target in _INDEXED_POOLS:
            _lower_pool(graph_module, node)
    return tidy(graph_module)


def _lower_index(graph_module: fx.GraphModule, node: fx.Node) -> None:
    source, indices = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(indices, (list, tuple))
    used = [dim for dim, index in enumerate(indices) if index is not None]
    positions = _positions(constant_of(graph_module, indices[used[0]])) if len(used) == 1 else None
    if positions is not None:
        _select(Builder(graph_module, node), source, used[0], positions, indices[used[0]])


def _lower_repetition(graph_module: fx.GraphModule, node: fx.Node) -> None:
    source, index, dim = (*node.args, None)[:3]
    repetitions = constant_of(graph_module, index)
    if repetitions is None or repetitions.dim() != 1 or not isinstance(source, fx.Node) or dim is None:
        return
    builder, place = Builder(graph_module, node), as_int(dim)
    size = builder.shape(source)[place]
    if isinstance(size, int):
        positions = torch.arange(size, device=repetitions.device).repeat_interleave(repetitions)
        _select(builder, source, place % len(builder.shape(source)), positions, index)


def _select(builder: Builder, source: fx.Node, dim: int, positions: Tensor, origin: object) -> None:
    size = builder.shape(source)[dim]
    if isinstance(size, int):
        constant = builder.constant(f"{builder.before.name}_positions", positions % size, origin)
        builder.replace(builder.call(aten.index_select.default, source, dim, constant))


def _positions(index: Tensor | None) -> Tensor | None:
    """The integers [K] a constant index picks; None for an index of other dimensions."""
    if index is None or index.dim() != 1:
        return None
    return index.nonzero().flatten() if index.dtype == torch.bool else index.long()


def _lower_pool(graph_module: fx.GraphModule, node: fx.Node) -> None:
    users = list(node.users)
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in users):
        return
    for user in users:
        builder = Builder(graph_module, user)
        builder.replace(builder.call(_INDEXED_POOLS[node.target], *node.args, **node.kwargs))  # type: ignore[arg-type]
