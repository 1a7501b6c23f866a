"""Arithmetic of several values, broadcast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.dtypes import BITS, TORCH_TYPES
from snnconvert.models.onnx.table import onnx_op


def _pair(call: Call) -> tuple[Any, Any]:
    """Two operands, of which at least one is a tensor; constants of one element are plain numbers."""
    ranks = [value.dim() if isinstance(value := call.raw(i), Tensor) else 0 for i in (0, 1)]
    left, right = call.operand(0, ranks[1]), call.operand(1, ranks[0])
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        return call.tensor(0), right
    return left, right


@onnx_op("Add", scalars=True)
def add(call: Call) -> Tensor:
    """A + b."""
    left, right = _pair(call)
    return left + right  # type: ignore[no-any-return]


@onnx_op("Sub", scalars=True)
def sub(call: Call) -> Tensor:
    """A − b."""
    left, right = _pair(call)
    return left - right  # type: ignore[no-any-return]


@onnx_op("Mul", scalars=True)
def mul(call: Call) -> Tensor:
    """a·b."""
    left, right = _pair(call)
    return left * right  # type: ignore[no-any-return]


@onnx_op("Div", scalars=True)
def div(call: Call) -> Tensor:
    """a/b; of integers towards zero."""
    left, right = _pair(call)
    tensor = left if isinstance(left, Tensor) else right
    if tensor.is_floating_point():
        return left / right  # type: ignore[no-any-return]
    return torch.div(torch.as_tensor(left), torch.as_tensor(right), rounding_mode="trunc")


@onnx_op("Pow", scalars=True)
def power(call: Call) -> Tensor:
    """a^b in the type of a."""
    base, exponent = _pair(call)
    if not isinstance(base, Tensor):
        base = torch.as_tensor(base)
    if isinstance(exponent, float) and exponent.is_integer() and abs(exponent) < 64:
        exponent = int(exponent)
    return torch.pow(base, exponent).to(base.dtype)


@onnx_op("Mod", scalars=True)
def mod(call: Call) -> Tensor:
    """A mod b with the divisor's sign, or the dividend's for fmod."""
    left, right = call.tensor(0), call.tensor(1)
    return torch.fmod(left, right) if call.flag("fmod") else torch.remainder(left, right)


def _reduced(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    def run(call: Call) -> Tensor:
        return functools.reduce(function, call.tensors())

    return run


onnx_op("Sum")(_reduced(torch.add))
onnx_op("Max")(_reduced(torch.maximum))
onnx_op("Min")(_reduced(torch.minimum))


@onnx_op("Mean")
def mean(call: Call) -> Tensor:
    """(a + b + ...)/n."""
    tensors = call.tensors()
    return functools.reduce(torch.add, tensors) / len(tensors)


@onnx_op("BitShift")
def bit_shift(call: Call) -> Tensor:
    """a·2^b or a/2^b."""
    function = torch.bitwise_left_shift if call.text("direction", "") == "LEFT" else torch.bitwise_right_shift
    return function(call.tensor(0), call.tensor(1))


@onnx_op("Cast")
def cast(call: Call) -> Tensor:
    """X in another type; every floating type is float32."""
    return _cast(call, call.tensor(0), call.integer("to", 0))


@onnx_op("CastLike", numbers=())
def cast_like(call: Call) -> Tensor:
    """X in the type of another value."""
    return _to_type(call.tensor(0), call.tensor(1).dtype)


def _cast(call: Call, x: Tensor, target: int) -> Tensor:
    if BITS.get(target, 0) < 8:
        raise call.node.unsupported("it casts to a type of texts, of complex numbers, or of very few bits")
    return _to_type(x, TORCH_TYPES[target])


def _to_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype is dtype else x.to(dtype)
