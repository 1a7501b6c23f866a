"""x[:, a:b] = y as cat(x[:, :a], y, x[:, b:]): what is written into parts of a tensor, joined to the rest of it.

Capture makes scatters of such writes. Holds exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from snnconvert.convert.arguments import as_int, as_node, takes_all, with_defaults
from snnconvert.convert.graph_builder import Builder, same_sizes
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten


def lower_writes(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites copies to what is copied, and scatters into consecutive places of a known size to concats."""
    for node in list(graph_module.graph.nodes):
        written = _written(Builder(graph_module, node)) if node.op == "call_function" else None
        if written is not None:
            node.replace_all_uses_with(written)
    return tidy(graph_module)


def _written(builder: Builder) -> fx.Node | None:
    """What a node that writes amounts to; None of other nodes."""
    node = builder.before
    if node.target is aten.copy.default:
        return _copied(builder, as_node(node.args[0]), as_node(node.args[1]))
    if node.target is aten.slice_scatter.default:
        return _with_slice(builder, as_node(node.args[0]), as_node(node.args[1]))
    if node.target is aten.select_scatter.default:
        return _with_row(builder, as_node(node.args[0]), as_node(node.args[1]))
    return None


def _copied(builder: Builder, target: fx.Node, source: fx.Node) -> fx.Node | None:
    if target.meta["val"].dtype != source.meta["val"].dtype:
        return None
    if same_sizes(builder.shape(target), builder.shape(source)):
        return source
    return builder.call(aten.expand.default, source, builder.sizes(target))


def _with_row(builder: Builder, base: fx.Node, part: fx.Node) -> fx.Node | None:
    place, index = _place(base, builder.before.args[2]), builder.before.args[3]
    size = builder.shape(base)[place]
    if not isinstance(size, int) or not isinstance(index, int):
        return None
    row = builder.call(aten.unsqueeze.default, part, place)
    return _joined(builder, base, row, place, (index % size, index % size + 1))


def _with_slice(builder: Builder, base: fx.Node, part: fx.Node) -> fx.Node | None:
    _, dim, start, end, step = with_defaults(builder.before, None, 0, None, None, 1)
    if step != 1:
        return None
    place = _place(base, dim)
    size = builder.shape(base)[place]
    if takes_all(start, end):
        return part
    if not isinstance(size, int) or isinstance(start, fx.Node) or isinstance(end, fx.Node):
        return None
    first, last, _ = slice(start, end).indices(size)
    return _joined(builder, base, part, place, (first, max(first, last)))


def _place(node: fx.Node, dim: object) -> int:
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    return as_int(dim) % value.dim()


def _joined(builder: Builder, base: fx.Node, part: fx.Node, dim: int, span: tuple[int, int]) -> fx.Node:
    """The part between what is in front of it and what is behind it."""
    size, (first, last) = as_int(builder.shape(base)[dim]), span
    parts = [part]
    if first > 0:
        parts.insert(0, builder.call(aten.slice.Tensor, base, dim, 0, first))
    if last < size:
        parts.append(builder.call(aten.slice.Tensor, base, dim, last, size))
    return part if len(parts) == 1 else builder.call(aten.cat.default, parts, dim)
