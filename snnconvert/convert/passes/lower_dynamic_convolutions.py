"""A convolution with a kernel per sample, conv([1, B·C, …], W, groups=B·g), becomes W·unfold(x) per sample.

For every sample b: y_b = W_b · im2col(x_b), a product of two activations. Holds up to float rounding.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from snnconvert.convert.arguments import as_int, as_ints, with_defaults
from snnconvert.convert.graph_builder import Builder, Size
from snnconvert.convert.graph_tools import tidy
from snnconvert.convert.ops import shape_of

aten = torch.ops.aten
_RANKS: dict[object, int] = {aten.conv1d.default: 1, aten.conv2d.default: 2}


def lower_dynamic_convolutions(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites convolutions over one or two dimensions of fixed size whose groups are a multiple of the batch."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in _RANKS and _has_known_sizes(node):
            groups = _groups_per_sample(graph_module, node)
            if groups is not None:
                _lower(Builder(graph_module, node), node, groups)
    return tidy(graph_module)


def _has_known_sizes(node: fx.Node) -> bool:
    """Whether all of a convolution but the batch in its channels and kernels is fixed."""
    source, kernels, result = (shape_of(each) or () for each in (*node.args[:2], node))  # type: ignore[arg-type]
    fixed = all(isinstance(size, int) for size in (source[0], *source[2:], *kernels[1:], *result[2:]))
    return fixed and bool(source[0] == 1) and isinstance(kernels[0], torch.SymInt)


def _groups_per_sample(graph_module: fx.GraphModule, node: fx.Node) -> int | None:
    """G of groups = B·g; None if the groups don't grow with the batch."""
    groups = with_defaults(node, None, None, 1, 0, 1, 1)[5]
    value = groups.meta.get("val") if isinstance(groups, fx.Node) else None
    batch = _batch(graph_module)
    if not isinstance(value, torch.SymInt) or batch is None:
        return None
    ratio = value.node.expr / batch[1]
    return int(ratio) if ratio.is_Integer else None


def _batch(graph_module: fx.GraphModule) -> tuple[fx.Node, object] | None:
    """The first input with a batch, and the symbol of its size."""
    for node in graph_module.graph.nodes:
        value = node.meta.get("val")
        shape = value.shape if node.op == "placeholder" and isinstance(value, torch.Tensor) else ()
        if len(shape) > 0 and isinstance(shape[0], torch.SymInt):
            return node, shape[0].node.expr
    return None


def _lower(builder: Builder, node: fx.Node, groups: int) -> None:
    source, weight, bias, stride, padding, dilation, _ = (node.args[0], *with_defaults(node, None, None, 1, 0, 1, 1))
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    found = _batch(builder.graph_module)
    assert found is not None
    batch = builder.size(found[0], 0)
    inputs, *kernel = (as_int(size) for size in builder.shape(weight)[1:])
    sizes, results = ([as_int(size) for size in builder.shape(each)[2:]] for each in (source, node))
    outputs = _per_sample(builder, weight, found[1], groups)
    flat = [1] * (2 - len(kernel))  # a line is an image of one row
    image = builder.reshape(source, [batch, groups * inputs, *flat, *sizes])
    terms = inputs * math.prod(kernel)
    rank = len(kernel)
    geometry = (
        [*flat, *kernel],
        (*flat, *as_ints(dilation, rank)),
        (*(0 for _ in flat), *as_ints(padding, rank)),
        (*flat, *as_ints(stride, rank)),
    )
    shape = [builder.shape(image)[0], groups * terms, math.prod(results)]
    windows = builder.call_shaped(shape, aten.im2col.default, image, *geometry)
    columns = builder.reshape(windows, [batch, groups, terms, math.prod(results)])
    kernels = builder.reshape(weight, [batch, groups, outputs, terms])
    product: fx.Node = builder.call(aten.matmul.default, kernels, columns)
    whole: list[Size] = [1, builder.product([batch, groups * outputs]), *results]
    if isinstance(bias, fx.Node):
        shifts = builder.reshape(bias, [batch, groups, outputs, 1])
        product = builder.call(aten.add.Tensor, product, shifts)
    builder.replace(builder.call(aten.reshape.default, product, whole))


def _per_sample(builder: Builder, weight: fx.Node, batch: object, groups: int) -> int:
    """Output channels of one group of one sample."""
    kernels = builder.shape(weight)[0]
    assert isinstance(kernels, torch.SymInt)
    return int(kernels.node.expr / batch) // groups
