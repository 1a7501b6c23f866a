"""a·(W·x + c) + d = (a·W)·x + (a·c + d): normalizations, scales and shifts fold into the synapse before them.

Holds up to float rounding. A normalization with no synapse of its own in front (after an addition, a
concat or a rectifier) becomes one ``channel_affine`` node. What a normalization knows of its output's mean and
variance stays with the node that gives this output.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

from snnconvert.convert.batch_statistics import normalized, set_statistics, statistics_of
from snnconvert.convert.graph_tools import add_constant, constant_of, replace_node, tidy
from snnconvert.convert.ops import CONVOLUTIONS, LINEAR, TRANSPOSED, channel_affine, groups_of, shape_of
from snnconvert.neurons.synapse import outputs_first

aten = torch.ops.aten
_NORMALIZATION = aten._native_batch_norm_legit_no_training.default


def fold_affine(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Folds inference BatchNorm and constant scales and shifts into convolutions and linear layers."""
    for node in list(graph_module.graph.nodes):
        if node.target is _NORMALIZATION:
            _normalization_to_affine(graph_module, node)
    graph_module.graph.eliminate_dead_code()
    for node in list(graph_module.graph.nodes):
        terms = _affine_terms(graph_module, node)
        if terms is not None:
            _fold(graph_module, node, *terms)
    return tidy(graph_module)


def _normalization_to_affine(graph_module: fx.GraphModule, node: fx.Node) -> None:
    source, weight, bias, mean, variance, _, epsilon = node.args
    assert isinstance(source, fx.Node)
    mean_value, variance_value = constant_of(graph_module, mean), constant_of(graph_module, variance)
    assert mean_value is not None
    assert variance_value is not None
    scale = (variance_value.double() + float(epsilon)).rsqrt()  # type: ignore[arg-type]
    if (gamma := constant_of(graph_module, weight)) is not None:
        scale = scale * gamma.double()
    shift = -mean_value.double() * scale
    if (beta := constant_of(graph_module, bias)) is not None:
        shift = shift + beta.double()
    (output,) = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    name = str(node.name)
    scale_node = add_constant(graph_module, output, f"{name}_scale", scale.float())
    shift_node = add_constant(graph_module, output, f"{name}_shift", shift.float())
    scale_node.meta["parameter"] = mean.meta.get("parameter", mean.target)  # type: ignore[union-attr]
    with graph_module.graph.inserting_before(output):
        affine = graph_module.graph.call_function(channel_affine, (source, scale_node, shift_node))
    set_statistics(affine, normalized(mean_value, variance_value, scale, shift))
    replace_node(output, affine)


def _affine_terms(graph_module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Tensor, Tensor] | None:
    """The synapse in front of an affine node with its scale and shift [O], or None if it can't fold."""
    if node.op != "call_function":
        return None
    synapse = next((arg for arg in node.args if isinstance(arg, fx.Node) and _is_foldable(graph_module, arg)), None)
    if synapse is None:
        return None
    channels = _channels(graph_module, synapse)
    one, zero = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    if node.target is channel_affine:
        if _channel_axis(synapse) != 1:
            return None
        scale, shift = (constant_of(graph_module, arg) for arg in node.args[1:])
        assert scale is not None
        assert shift is not None
        return synapse, scale.double(), shift.double()
    if node.kwargs or len(node.args) not in (2, 3) or node.args[2:] not in ((), (1,)):
        return None
    other = node.args[1] if node.args[0] is synapse else node.args[0]
    constant = _channel_vector(graph_module, other, synapse, channels)
    if constant is None:
        return None
    if node.target is aten.mul.Tensor:
        return synapse, constant, zero
    if node.target is aten.add.Tensor:
        return synapse, one, constant
    if node.target is aten.div.Tensor and node.args[0] is synapse:
        return synapse, 1.0 / constant, zero
    if node.target is aten.sub.Tensor:
        return (synapse, one, -constant) if node.args[0] is synapse else (synapse, -one, constant)
    if node.target is aten.rsub.Scalar:
        return synapse, -one, constant
    return None


def _is_foldable(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    is_synapse = node.target in CONVOLUTIONS or node.target in TRANSPOSED or node.target is LINEAR
    if not is_synapse or len(node.users) != 1:
        return False
    bias = node.args[2] if len(node.args) > 2 else None
    return constant_of(graph_module, node.args[1]) is not None and (
        bias is None or constant_of(graph_module, bias) is not None
    )


def _channel_axis(synapse: fx.Node) -> int:
    shape = shape_of(synapse)
    return len(shape) - 1 if synapse.target is LINEAR and shape is not None else 1


def _channels(graph_module: fx.GraphModule, synapse: fx.Node) -> int:
    weight = constant_of(graph_module, synapse.args[1])
    assert weight is not None
    return int(weight.shape[1] * groups_of(synapse) if synapse.target in TRANSPOSED else weight.shape[0])


def _channel_vector(graph_module: fx.GraphModule, value: object, synapse: fx.Node, channels: int) -> Tensor | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.full((channels,), float(value), dtype=torch.float64)
    constant, shape = constant_of(graph_module, value), shape_of(synapse)
    if constant is None or shape is None or constant.dim() > len(shape) or not constant.is_floating_point():
        return None
    padded = constant.reshape((1,) * (len(shape) - constant.dim()) + tuple(constant.shape))
    axis = _channel_axis(synapse)
    if any(size != 1 for dim, size in enumerate(padded.shape) if dim != axis):
        return None
    if padded.shape[axis] not in (1, channels):
        return None
    return padded.reshape(-1).double().expand(channels).cpu().clone()


def _fold(graph_module: fx.GraphModule, node: fx.Node, synapse: fx.Node, scale: Tensor, shift: Tensor) -> None:
    weight = constant_of(graph_module, synapse.args[1])
    assert weight is not None
    bias = constant_of(graph_module, synapse.args[2]) if len(synapse.args) > 2 else None
    scale, shift = scale.to(weight.device), shift.to(weight.device)
    folded = weight.double()
    if synapse.target in TRANSPOSED:
        folded = outputs_first(folded, groups_of(synapse))
    folded = folded * scale.view(-1, *[1] * (weight.dim() - 1))
    if synapse.target in TRANSPOSED:
        folded = outputs_first(folded, groups_of(synapse))
    new_bias = shift if bias is None else bias.double() * scale + shift
    name = str(synapse.args[1].target)  # type: ignore[union-attr]
    weight_node = add_constant(graph_module, synapse, f"{name}_folded", folded.to(weight.dtype))
    weight_node.meta["parameter"] = synapse.args[1].meta.get("parameter", name)  # type: ignore[union-attr]
    bias_node = add_constant(graph_module, synapse, f"{name}_folded_bias", new_bias.to(weight.dtype))
    synapse.args = (synapse.args[0], weight_node, bias_node, *synapse.args[3:])
    known = statistics_of(synapse)
    set_statistics(synapse, statistics_of(node) or (known and known.transformed(scale, shift)))
    node.replace_all_uses_with(synapse)
    graph_module.graph.erase_node(node)
