"""attention(q, k, v) = softmax(s·(q·kᵀ) + mask)·v: two products of activations with a softmax between.

Holds up to float rounding. The scale s multiplies the scores, so queries and keys keep their own ranges.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from snnconvert.convert.arguments import with_defaults
from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten
_ATTENTION = aten.scaled_dot_product_attention.default


def lower_attention(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Writes out every scaled dot product attention without dropout."""
    found = graph_module.graph.find_nodes(op="call_function", target=_ATTENTION)
    for node in found:
        _lower(graph_module, node)
    return tidy(graph_module) if found else graph_module


def _lower(graph_module: fx.GraphModule, node: fx.Node) -> None:
    key, value, mask, dropout, causal = with_defaults(node, None, None, None, 0.0, False)
    mask, dropout = node.kwargs.get("attn_mask", mask), node.kwargs.get("dropout_p", dropout)
    causal = node.kwargs.get("is_causal", causal)
    builder, query = Builder(graph_module, node), node.args[0]
    assert isinstance(query, fx.Node)
    scale = node.kwargs.get("scale")
    if scale is None and isinstance(width := builder.shape(query)[-1], int):
        scale = 1 / math.sqrt(width)
    if dropout != 0.0 or not isinstance(scale, (int, float)):
        return
    if node.kwargs.get("enable_gqa", False):
        key, value = _repeat_heads(builder, key, query), _repeat_heads(builder, value, query)
    scores = builder.call(aten.matmul.default, query, builder.call(aten.transpose.int, key, -2, -1))
    if scale != 1.0:
        scores = builder.call(aten.mul.Tensor, scores, float(scale))
    if causal:
        mask = _causal_mask(builder, query, key)
    if mask is None:
        weights = builder.call(aten.softmax.int, scores, -1)
    else:
        weights = _masked_softmax(builder, scores, mask, always_sees=bool(causal))
    builder.replace(builder.call(aten.matmul.default, weights, value))


def _repeat_heads(builder: Builder, shared: fx.Node, query: fx.Node) -> fx.Node:
    """Head h of the queries meets head h // (query heads / shared heads) of the keys and values."""
    heads, wanted = builder.shape(shared)[-3], builder.shape(query)[-3]
    assert isinstance(heads, int)
    assert isinstance(wanted, int)
    if heads == wanted:
        return shared
    sizes = builder.sizes(shared)
    apart = builder.call(aten.unsqueeze.default, shared, -3)
    repeated = builder.call(aten.expand.default, apart, [*sizes[:-2], wanted // heads, *sizes[-2:]])
    return builder.reshape(repeated, [*sizes[:-3], wanted, *sizes[-2:]])


def _causal_mask(builder: Builder, query: fx.Node, key: fx.Node) -> fx.Node:
    """Position i sees the positions up to i."""
    rows, columns, device = builder.size(query, -2), builder.size(key, -2), query.meta["val"].device
    if isinstance(rows, int) and isinstance(columns, int):
        seen = torch.ones(rows, columns, dtype=torch.bool, device=device).tril()
        return builder.constant(f"{builder.before.name}_causal", seen)
    ones = builder.call(aten.ones.default, [rows, columns], dtype=torch.bool, device=device)
    return builder.call(aten.tril.default, ones)


def _masked_softmax(builder: Builder, scores: fx.Node, mask: fx.Node, *, always_sees: bool) -> fx.Node:
    """Softmax over what the mask lets through; a row that sees nothing is 0, as in torch."""
    boolean = mask.meta["val"].dtype == torch.bool
    if boolean:
        hidden = builder.call(aten.logical_not.default, mask)
        scores = builder.call(aten.masked_fill.Scalar, scores, hidden, -math.inf)
    else:
        hidden = builder.call(aten.eq.Scalar, mask, -math.inf)
        scores = builder.call(aten.add.Tensor, scores, mask)
    weights = builder.call(aten.softmax.int, scores, -1)
    if always_sees or _never_blind(builder, mask, boolean=boolean):
        return weights
    blind = builder.call(aten.all.dim, hidden, -1, True)
    return builder.call(aten.masked_fill.Scalar, weights, blind, 0.0)


def _never_blind(builder: Builder, mask: fx.Node, *, boolean: bool) -> bool:
    """Whether a constant mask lets every row see something."""
    constant = builder.constant_of(mask)
    if constant is None:
        return False
    seen = constant if boolean else constant != -math.inf
    return bool(seen.any(-1).all())
