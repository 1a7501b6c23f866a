"""Normalizations in inference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import MICROSOFT, onnx_op


@onnx_op("BatchNormalization", weights={1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"})
def batch_normalization(call: Call) -> Tensor:
    """weight·(x − mean)/sqrt(var + epsilon) + bias, per channel."""
    if call.flag("training_mode") or (call.outputs > 1 and call.opset >= 14):
        raise call.node.unsupported("it is in training mode: export the network in evaluation mode")
    x, epsilon = call.tensor(0), call.real("epsilon", 1e-5)
    if not call.integer("spatial", 1):
        raise call.node.unsupported("normalization per value (spatial = 0) is not supported")
    weight, bias, mean, variance = (call.tensor(position) for position in (1, 2, 3, 4))
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, epsilon)


@onnx_op("LayerNormalization", weights={1: "weight", 2: "bias"})
def layer_normalization(call: Call) -> list[Tensor]:
    """weight·(x − mean)/sqrt(var + epsilon) + bias over the dimensions from the axis on."""
    x, weight, bias = call.tensor(0), call.tensor(1), call.maybe(2)
    axis, epsilon = call.axis(-1, x.dim()), call.real("epsilon", 1e-5)
    shape = list(x.shape[axis:])
    fits = list(weight.shape) == shape and (bias is None or list(bias.shape) == shape)
    result = F.layer_norm(x, shape, weight if fits else None, bias if fits else None, epsilon)
    if not fits:
        result = result * weight if bias is None else result * weight + bias
    if call.outputs == 1:
        return [result]
    axes = list(range(axis, x.dim()))
    mean = x.mean(axes, keepdim=True)
    variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    return [result, mean, torch.rsqrt(variance + epsilon)]


@onnx_op("RMSNormalization", weights={1: "weight"})
def rms_normalization(call: Call) -> Tensor:
    """weight·x/sqrt(mean(x²) + epsilon) over the dimensions from the axis on."""
    x = call.tensor(0)
    axes = list(range(call.axis(-1, x.dim()), x.dim()))
    return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + call.real("epsilon", 1e-5)) * call.tensor(1)


@onnx_op("SimplifiedLayerNormalization", weights={1: "weight"})
def simplified_layer_normalization(call: Call) -> Tensor:
    """Onnxruntime's name of RMSNormalization."""
    return rms_normalization(call)


@onnx_op("InstanceNormalization", weights={1: "weight", 2: "bias"})
def instance_normalization(call: Call) -> Tensor:
    """weight·(x − mean)/sqrt(var + epsilon) + bias, per sample and channel."""
    x, weight, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    return F.group_norm(x, x.shape[1], weight, bias, call.real("epsilon", 1e-5))


@onnx_op("GroupNormalization", since=18, weights={1: "weight", 2: "bias"})
def group_normalization_per_group(call: Call) -> Tensor:
    """weight·(x − mean)/sqrt(var + epsilon) + bias, per sample and group, with one weight a group."""
    x, groups = call.tensor(0), call.integer("num_groups", 1)
    result = F.group_norm(x, groups, eps=call.real("epsilon", 1e-5))
    repeats = x.shape[1] // groups
    shape = [1, -1, *[1] * (x.dim() - 2)]
    weight, bias = (call.tensor(i).repeat_interleave(repeats).reshape(shape) for i in (1, 2))
    return result * weight + bias


@onnx_op("GroupNormalization", since=21, weights={1: "weight", 2: "bias"})
def group_normalization(call: Call) -> Tensor:
    """weight·(x − mean)/sqrt(var + epsilon) + bias, per sample and group, with one weight a channel."""
    return F.group_norm(
        call.tensor(0), call.integer("num_groups", 1), call.tensor(1), call.tensor(2), call.real("epsilon", 1e-5)
    )


@onnx_op("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Tensor:
    """(x − mean)/(std + 1e-9)."""
    x, axes = call.tensor(0), call.ints("axes") or [0, 2, 3]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt((centred * centred).mean(axes, keepdim=True)) + 1e-9)


@onnx_op("LpNormalization")
def lp_normalization(call: Call) -> Tensor:
    """x/‖x‖_p along the axis; 0 where the norm is 0."""
    x, p = call.tensor(0), call.integer("p", 2)
    return F.normalize(x, float(p), call.axis(-1, x.dim()), 1e-30)


@onnx_op("LRN")
def local_response_normalization(call: Call) -> Tensor:
    """x/(bias + alpha/size·Σ x²)^beta over neighbouring channels."""
    x, size = call.tensor(0), call.integer("size", 1)
    before, behind = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = F.pad((x * x).flatten(2).unsqueeze(1), [0, 0, before, behind])
    sums = F.avg_pool2d(squares, [size, 1], [1, 1]).squeeze(1).reshape(x.shape)
    return x / (sums * call.real("alpha", 1e-4) + call.real("bias", 1.0)) ** call.real("beta", 0.75)


@onnx_op("SkipLayerNormalization", domain=MICROSOFT, weights={2: "weight", 3: "bias"})
def skip_layer_normalization(call: Call) -> list[Tensor | None]:
    """layer_norm(x + skip [+ bias]), and on demand the sum."""
    total = _total(call, 4)
    weight = call.tensor(2)
    result = F.layer_norm(total, list(weight.shape), weight, call.maybe(3), call.real("epsilon", 1e-12))
    return [result, None, None, total][: call.outputs]


@onnx_op("SkipSimplifiedLayerNormalization", domain=MICROSOFT, weights={2: "weight"})
def skip_simplified_layer_normalization(call: Call) -> list[Tensor | None]:
    """weight·z/sqrt(mean(z²) + epsilon) with z = x + skip [+ bias], and on demand z."""
    total = _total(call, 3)
    result = total * torch.rsqrt((total * total).mean(-1, keepdim=True) + call.real("epsilon", 1e-12)) * call.tensor(2)
    return [result, None, None, total][: call.outputs]


def _total(call: Call, bias: int) -> Tensor:
    total = call.tensor(0) + call.tensor(1)
    return total + call.tensor(bias) if call.has(bias) else total
