"""x·W = linear(x, Wᵀ), and "same" padding in numbers: one way to write each synapse. Holds exactly."""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.convert.arguments import as_int, as_ints, with_defaults
from snnconvert.convert.graph_tools import add_constant, constant_of, replace_node, tidy
from snnconvert.convert.ops import LINEAR, shape_of

aten = torch.ops.aten
_NAMED_PADDING = {
    aten.conv1d.padding: aten.conv1d.default,
    aten.conv2d.padding: aten.conv2d.default,
    aten.conv3d.padding: aten.conv3d.default,
}


def lower_synapses(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites products with a constant matrix to linear layers, and named paddings to sizes."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _NAMED_PADDING:
            _lower_padding(graph_module, node)
        elif node.target in (aten.matmul.default, aten.mm.default):
            _lower_product(graph_module, node, node.args[0], node.args[1], None)
        elif node.target is aten.addmm.default and not node.kwargs:
            _lower_product(graph_module, node, node.args[1], node.args[2], node.args[0])
    return tidy(graph_module)


def _lower_product(graph_module: fx.GraphModule, node: fx.Node, left: object, right: object, bias: object) -> None:
    matrix = constant_of(graph_module, right)
    if matrix is None or matrix.dim() != 2 or constant_of(graph_module, left) is not None:
        return
    shift = constant_of(graph_module, bias)
    if bias is not None and (shift is None or tuple(shift.shape) != (matrix.shape[1],)):
        return
    assert isinstance(right, fx.Node)
    parameter = str(right.meta.get("parameter", right.target))
    weight = add_constant(graph_module, node, f"{parameter}_transposed", matrix.t().contiguous())
    weight.meta["parameter"] = parameter
    with graph_module.graph.inserting_before(node):
        linear = graph_module.graph.call_function(LINEAR, (left, weight, bias))  # type: ignore[arg-type]
    replace_node(node, linear)


def _lower_padding(graph_module: fx.GraphModule, node: fx.Node) -> None:
    weight = shape_of(node.args[1])  # type: ignore[arg-type]
    if weight is None:
        return
    kernel = [as_int(size) for size in weight[2:]]
    rank = len(kernel)
    _, bias, stride, padding, dilation, groups = with_defaults(node, None, None, 1, "valid", 1, 1)
    totals = [(k - 1) * d for k, d in zip(kernel, as_ints(dilation, rank), strict=True)]
    needed = totals if padding == "same" else [0] * rank
    source = node.args[0]
    with graph_module.graph.inserting_before(node):
        if any(total % 2 for total in needed):
            pads = [size for total in reversed(needed) for size in (total // 2, total - total // 2)]
            source = graph_module.graph.call_function(aten.constant_pad_nd.default, (source, pads, 0.0))
            source.meta = {key: value for key, value in node.meta.items() if key == "nn_module_stack"}
            source.meta["val"] = aten.constant_pad_nd.default(node.args[0].meta["val"], pads, 0.0)  # type: ignore[union-attr]
            needed = [0] * rank
        sizes = [total // 2 for total in needed]
        arguments = (source, node.args[1], bias, as_ints(stride, rank), sizes, as_ints(dilation, rank), groups)
        convolution = graph_module.graph.call_function(_NAMED_PADDING[node.target], arguments)  # type: ignore[index]
    replace_node(node, convolution)
