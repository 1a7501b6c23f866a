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

aten = torch.ops.aten


def lower_dynamic_convolutions(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites two-dimensional convolutions of fixed image size whose groups are a multiple of the batch."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target is aten.conv2d.default:
            groups = _groups_per_sample(graph_module, node)
            if groups is not None and all(isinstance(size, int) for size in node.meta["val"].shape[2:]):
                _lower(Builder(graph_module, node), node, groups)
    return tidy(graph_module)


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
    _, inputs, *kernel = (as_int(size) for size in (0, *builder.shape(weight)[1:]))
    outputs = _per_sample(builder, weight, found[1], groups)
    image = builder.reshape(source, [batch, groups * inputs, builder.size(source, 2), builder.size(source, 3)])
    terms = inputs * kernel[0] * kernel[1]
    rows_and_columns = [as_int(size) for size in builder.shape(node)[2:]]
    places = math.prod(rows_and_columns)
    geometry = (kernel, as_ints(dilation, 2), as_ints(padding, 2), as_ints(stride, 2))
    shape = [builder.shape(image)[0], groups * terms, places]
    windows = builder.call_shaped(shape, aten.im2col.default, image, *geometry)
    columns = builder.reshape(windows, [batch, groups, terms, builder.size(windows, 2)])
    kernels = builder.reshape(weight, [batch, groups, outputs, terms])
    product: fx.Node = builder.call(aten.matmul.default, kernels, columns)
    sizes: list[Size] = [1, builder.product([batch, groups * outputs]), *rows_and_columns]
    if isinstance(bias, fx.Node):
        shifts = builder.reshape(bias, [batch, groups, outputs, 1])
        product = builder.call(aten.add.Tensor, product, shifts)
    builder.replace(builder.call(aten.reshape.default, product, sizes))


def _per_sample(builder: Builder, weight: fx.Node, batch: object, groups: int) -> int:
    """Output channels of one group of one sample."""
    kernels = builder.shape(weight)[0]
    assert isinstance(kernels, torch.SymInt)
    return int(kernels.node.expr / batch) // groups
