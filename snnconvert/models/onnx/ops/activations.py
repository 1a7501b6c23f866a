"""Functions of single values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import MICROSOFT, onnx_op

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Neg": torch.neg, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
    "Reciprocal": torch.reciprocal, "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Sign": torch.sign, "Erf": torch.erf, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh,
    "Softsign": F.softsign, "HardSwish": F.hardswish, "Mish": F.mish, "Sin": torch.sin, "Cos": torch.cos,
    "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh,
    "Cosh": torch.cosh, "Asinh": torch.asinh, "Acosh": torch.acosh, "Atanh": torch.atanh, "IsNaN": torch.isnan,
    "BitwiseNot": torch.bitwise_not, "Not": torch.logical_not, "Det": torch.linalg.det,
}  # fmt: skip


def _register(name: str, function: Callable[[Tensor], Tensor]) -> None:
    @onnx_op(name)
    def run(call: Call) -> Tensor:
        return function(call.tensor(0))


for _name, _function in _UNARY.items():
    _register(_name, _function)


@onnx_op("Softplus")
def softplus(call: Call) -> Tensor:
    """log(1 + exp(x)) without a threshold."""
    x = call.tensor(0)
    return torch.logaddexp(x, torch.zeros_like(x))


@onnx_op("LeakyRelu")
def leaky_relu(call: Call) -> Tensor:
    """x, or alpha·x where x is negative."""
    return F.leaky_relu(call.tensor(0), call.real("alpha", 0.01))


@onnx_op("ThresholdedRelu")
def thresholded_relu(call: Call) -> Tensor:
    """X where x > alpha, else 0."""
    return F.threshold(call.tensor(0), call.real("alpha", 1.0), 0.0)


@onnx_op("Elu")
def elu(call: Call) -> Tensor:
    """x, or alpha·(exp(x) − 1) where x is negative."""
    return F.elu(call.tensor(0), call.real("alpha", 1.0))


@onnx_op("Selu")
def selu(call: Call) -> Tensor:
    """gamma·elu(x, alpha)."""
    alpha, gamma = call.real("alpha", _SELU_ALPHA), call.real("gamma", _SELU_GAMMA)
    if math.isclose(alpha, _SELU_ALPHA, rel_tol=1e-6) and math.isclose(gamma, _SELU_GAMMA, rel_tol=1e-6):
        return F.selu(call.tensor(0))
    return gamma * F.elu(call.tensor(0), alpha)


@onnx_op("Celu")
def celu(call: Call) -> Tensor:
    """max(x, 0) + min(alpha·(exp(x/alpha) − 1), 0)."""
    return F.celu(call.tensor(0), call.real("alpha", 1.0))


@onnx_op("Gelu")
def gelu(call: Call) -> Tensor:
    """x·Φ(x), exact or with tanh."""
    return F.gelu(call.tensor(0), approximate=call.text("approximate", "none"))


@onnx_op("Gelu", domain=MICROSOFT)
def microsoft_gelu(call: Call) -> Tensor:
    """x·Φ(x)."""
    return F.gelu(call.tensor(0))


@onnx_op("HardSigmoid")
def hard_sigmoid(call: Call) -> Tensor:
    """min(max(alpha·x + beta, 0), 1)."""
    x, alpha, beta = call.tensor(0), call.real("alpha", 0.2), call.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@onnx_op("Swish")
def swish(call: Call) -> Tensor:
    """x·sigmoid(alpha·x)."""
    x, alpha = call.tensor(0), call.real("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@onnx_op("QuickGelu", domain=MICROSOFT)
def quick_gelu(call: Call) -> Tensor:
    """x·sigmoid(alpha·x)."""
    x = call.tensor(0)
    return x * torch.sigmoid(call.real("alpha", 1.702) * x)


@onnx_op("SwiGLU")
def swiglu(call: Call) -> Tensor:
    """a·sigmoid(alpha·a)·b."""
    return swish(call) * call.tensor(1)


@onnx_op("PRelu", weights={1: "weight"})
def prelu(call: Call) -> Tensor:
    """x, or slope·x where x is negative; the slope broadcasts from the last dimension."""
    x, slope = call.tensor(0), call.tensor(1)
    per_channel = slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0]
    if x.is_floating_point() and (slope.numel() == 1 or (per_channel and x.dim() > 2)):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@onnx_op("Shrink")
def shrink(call: Call) -> Tensor:
    """X + bias below −lambd, x − bias above lambd, else 0."""
    x, bias, limit = call.tensor(0), call.real("bias", 0.0), call.real("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero)).to(x.dtype)


@onnx_op("IsInf")
def is_inf(call: Call) -> Tensor:
    """Whether x is +Inf or −Inf, each where it is asked for."""
    x = call.tensor(0)
    positive = torch.isposinf(x) if call.flag("detect_positive", True) else torch.zeros_like(x, dtype=torch.bool)
    return positive | torch.isneginf(x) if call.flag("detect_negative", True) else positive


@onnx_op("Clip")
def clip_by_attributes(call: Call) -> Tensor:
    """min(max(x, low), high), with attributes."""
    low, high = call.real("min", -math.inf), call.real("max", math.inf)
    return _clamped(call.tensor(0), None if low == -math.inf else low, None if high == math.inf else high)


@onnx_op("Clip", since=11, scalars=True)
def clip_by_inputs(call: Call) -> Tensor:
    """min(max(x, low), high), with inputs."""
    x = call.tensor(0)
    limits = [call.operand(position, 1) if call.has(position) else None for position in (1, 2)]
    if any(isinstance(limit, Tensor) for limit in limits):
        low, high = (None if limit is None else torch.as_tensor(limit, dtype=x.dtype).reshape(()) for limit in limits)
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)
    return _clamped(x, *limits)  # type: ignore[arg-type]


def _clamped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low == 0 and (high is None or high == math.inf):
        return torch.relu(x)
    if low == 0 and high == 6:
        return F.relu6(x)
    if low is not None and high is not None and low > high:
        return torch.full_like(x, high)
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)


@onnx_op("Softmax")
def softmax_flat(call: Call) -> Tensor:
    """Softmax over all dimensions from the axis on."""
    return _over_rest(call, torch.softmax)


@onnx_op("Softmax", since=13)
def softmax(call: Call) -> Tensor:
    """Softmax over one dimension."""
    x = call.tensor(0)
    return torch.softmax(x, call.axis(-1, x.dim()))


@onnx_op("LogSoftmax")
def log_softmax_flat(call: Call) -> Tensor:
    """Log-softmax over all dimensions from the axis on."""
    return _over_rest(call, torch.log_softmax)


@onnx_op("LogSoftmax", since=13)
def log_softmax(call: Call) -> Tensor:
    """Log-softmax over one dimension."""
    x = call.tensor(0)
    return torch.log_softmax(x, call.axis(-1, x.dim()))


@onnx_op("Hardmax")
def hardmax_flat(call: Call) -> Tensor:
    """1 at the first largest value over all dimensions from the axis on, 0 elsewhere."""
    return _over_rest(call, _hardmax)


@onnx_op("Hardmax", since=13)
def hardmax(call: Call) -> Tensor:
    """1 at the first largest value of one dimension, 0 elsewhere."""
    x = call.tensor(0)
    return _hardmax(x, call.axis(-1, x.dim()))


def _hardmax(x: Tensor, axis: int) -> Tensor:
    largest = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, largest, 1.0)


def _over_rest(call: Call, function: Callable[..., Tensor]) -> Tensor:
    x = call.tensor(0)
    axis = call.axis(1, x.dim())
    if axis >= x.dim() - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)
