"""Shapes as plain numbers, and tensors made from them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.limits import MOST_HOST_ELEMENTS
from snnconvert.models.onnx.table import host_op, onnx_op
from snnconvert.models.onnx.values import Constant, HostArray, Quantized, Value


def _sizes(value: Value) -> list[Any]:
    if isinstance(value, HostArray):
        return list(value.values.shape)
    return list(value.real.shape if isinstance(value, Quantized) else value.shape)


@onnx_op("Shape")
def shape(call: Call) -> HostArray:
    """The sizes of x from start to end."""
    sizes = _sizes(call.raw(0))
    end = call.integer("end", len(sizes))
    return HostArray.of(sizes[slice(call.integer("start", 0), end)])


host_op("Shape")(shape)


@onnx_op("Size")
def size(call: Call) -> HostArray:
    """The product of the sizes of x."""
    product: Any = 1
    for item in _sizes(call.raw(0)):
        product = product * item
    return HostArray.scalar(product)


host_op("Size")(size)


@onnx_op("ConstantOfShape", numbers=(0,))
def constant_of_shape(call: Call) -> Value:
    """One number in a given shape; on the host if it is itself a small shape."""
    sizes = call.host(0).items()
    value = call.node.attributes.get("value")
    given = value.host if isinstance(value, Constant) else HostArray.scalar(0.0, torch.float32)
    if given is None or given.values.size != 1:
        raise call.node.malformed("its value must be one number")
    if any(isinstance(item, int) and item < 0 for item in sizes):
        raise call.node.malformed(f"it asks for the shape {sizes}")
    concrete = all(isinstance(item, int) for item in sizes)
    small = concrete and len(sizes) <= 1 and math.prod(sizes) <= MOST_HOST_ELEMENTS
    if small and not given.dtype.is_floating_point:
        filled = [given.item()] * (sizes[0] if sizes else 1)
        return HostArray.of(filled, given.dtype) if sizes else HostArray.scalar(filled[0], given.dtype)
    return torch.full([], given.item(), dtype=given.dtype).expand(sizes)


@onnx_op("Range", numbers=(0, 1, 2))
def range_(call: Call) -> Value:
    """start, start + step, ... below (or above) the limit."""
    start, limit, step = (call.number(position) for position in (0, 1, 2))
    dtype = call.host(0).dtype
    if step == 0:
        raise call.node.malformed("its step is 0")
    return torch.arange(start, limit, step, dtype=dtype)


@host_op("Range")
def host_range(call: Call) -> HostArray | None:
    """As Range, while it is short enough to be a shape."""
    start, limit, step = (call.number(position) for position in (0, 1, 2))
    return None if _is_long(start, limit, step) else HostArray.of(range(start, limit, step))


def _is_long(start: Any, limit: Any, step: Any) -> bool:
    plain = all(isinstance(item, int) for item in (start, limit, step))
    return not plain or step == 0 or len(range(start, limit, step)) > 64


@onnx_op("EyeLike")
def eye_like(call: Call) -> Tensor:
    """Ones on a diagonal of a matrix like x."""
    from snnconvert.models.onnx.dtypes import TORCH_TYPES

    x, target = call.tensor(0), call.integer("dtype", 0)
    dtype = TORCH_TYPES.get(target, x.dtype)
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    columns = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
    return (columns - rows == call.integer("k", 0)).to(dtype)
