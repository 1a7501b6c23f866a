"""Quantization: rounding to a grid and back, carried in real numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snnconvert.errors import ConversionError
from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.dtypes import TORCH_TYPES, quantized_range, type_name
from snnconvert.models.onnx.table import onnx_op
from snnconvert.models.onnx.values import Quantization, Quantized, Value

_BY_TYPE = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767), torch.int32: (0, 65535)}


def read_grid(call: Call, scale: int, zero_point: int, data_type: int = 0) -> Quantization:
    """The quantization that two inputs of a node describe; uint8 without a zero point."""
    factor, axis = call.tensor(scale), call.integer("axis", 1)
    factor = factor.reshape(()) if factor.numel() == 1 else factor
    numbers = _numbers(call, scale, zero_point)
    if call.integer("block_size", 0):
        raise call.node.unsupported("blockwise quantization of activations is not supported")
    if call.has(zero_point):
        zero = call.tensor(zero_point)
        dtype = zero.dtype
        if dtype not in _BY_TYPE:
            raise call.node.unsupported(f"quantization to {dtype} is not supported")
        low, high = _BY_TYPE[dtype]
        return Quantization(factor, zero.reshape(factor.shape).to(torch.int32), low, high, axis, dtype, numbers)
    limits = quantized_range(data_type or 2)
    if limits is None:
        raise call.node.unsupported(f"quantization to {type_name(data_type)} is not supported")
    zero = torch.zeros_like(factor, dtype=torch.int32)
    return Quantization(factor, zero, *limits, axis, TORCH_TYPES[data_type or 2], numbers)


def _numbers(call: Call, scale: int, zero_point: int) -> tuple[tuple[float, ...], tuple[int, ...]] | None:
    """Scales and zero points as plain numbers, or None if they are computed from data."""
    try:
        scales = tuple(call.host(scale).items())
        zeros = tuple(call.host(zero_point).items()) if call.has(zero_point) else (0,) * len(scales)
    except ConversionError:
        return None
    return scales, zeros


def fake_quantized(x: Tensor, grid: Quantization) -> Tensor:
    """scale·(clamp(round(x/scale) + zero_point, low, high) − zero_point).

    Written out, for torch.export can't trace torch's own fake quantization, which also multiplies by
    1/scale where ONNX divides.
    """
    if grid.scale.dim() == 0 and grid.numbers is not None:
        (scale,), (zero,) = grid.numbers
        return (torch.clamp(torch.round(x / scale) + zero, grid.low, grid.high) - zero) * scale
    scales, zeros = grid.shaped(grid.scale, x.dim()), grid.shaped(grid.zero_point, x.dim())
    steps = torch.maximum(torch.round(x / scales), (grid.low - zeros).to(x.dtype))
    return torch.minimum(steps, (grid.high - zeros).to(x.dtype)) * scales


def quantize(x: Tensor, grid: Quantization) -> Quantized:
    """X rounded to the grid."""
    return Quantized(fake_quantized(x, grid), grid)


def dequantize(value: Value, grid: Quantization) -> Tensor:
    """scale·(q − zero_point); nothing to do for a value that was rounded to that very grid."""
    if isinstance(value, Quantized) and _is_same(value.grid, grid):
        return value.real
    integers = value.integers() if isinstance(value, Quantized) else value
    assert isinstance(integers, Tensor)
    rank = integers.dim()
    shifted = integers.to(torch.int32) - grid.shaped(grid.zero_point, rank)
    return shifted.to(torch.float32) * grid.shaped(grid.scale, rank)


def _is_same(left: Quantization, right: Quantization) -> bool:
    same_kind = (left.low, left.high, left.scale.shape) == (right.low, right.high, right.scale.shape)
    return same_kind and left.numbers is not None and left.numbers == right.numbers


@onnx_op("QuantizeLinear", weights={1: "scale", 2: "zero_point"}, scalars=True)
def quantize_linear(call: Call) -> Quantized:
    """clamp(round(x/scale) + zero_point)."""
    return quantize(call.tensor(0).to(torch.float32), read_grid(call, 1, 2, call.integer("output_dtype", 0)))


@onnx_op("DequantizeLinear", weights={1: "scale", 2: "zero_point"}, scalars=True)
def dequantize_linear(call: Call) -> Tensor:
    """scale·(q − zero_point)."""
    value = call.raw(0)
    if not isinstance(value, Quantized) or call.integer("block_size", 0):
        return _dequantized_tensor(call, call.tensor(0))
    return dequantize(value, read_grid(call, 1, 2))


def _dequantized_tensor(call: Call, q: Tensor) -> Tensor:
    scale, zero = call.tensor(1), call.maybe(2)
    shifted = q.to(torch.float32)
    block, axis = call.integer("block_size", 0), call.integer("axis", 1)
    if zero is not None:
        shifted = q.to(torch.int64) - _spread(zero.to(torch.int64), q, axis, block)
    return shifted.to(torch.float32) * _spread(scale, q, axis, block)


def _spread(values: Tensor, like: Tensor, axis: int, block: int) -> Tensor:
    """Scales or zero points so that they broadcast over a tensor: one, one a channel, or one a block."""
    if values.numel() == 1 and not block:
        return values.reshape(())
    if values.dim() == like.dim() and not block and values.dim() > 1:
        return values
    if values.dim() == 1 and not block:
        return values.reshape([-1 if dim == axis % like.dim() else 1 for dim in range(like.dim())])
    return values.repeat_interleave(block, axis).narrow(axis, 0, like.shape[axis])


@onnx_op("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call) -> list[Tensor]:
    """X on a uint8 grid that covers its own range and zero, with scale and zero point; one for each sample."""
    x = call.tensor(0)
    low = torch.clamp(_extreme(call, x, torch.amin), max=0.0)
    high = torch.clamp(_extreme(call, x, torch.amax), min=0.0)
    scale = torch.where(high == low, 1.0, (high - low) / 255.0)
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    q = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return [q.to(torch.uint8), scale, zero.to(torch.uint8)]


def _extreme(call: Call, x: Tensor, function: Callable[..., Tensor]) -> Tensor:
    """The smallest or largest value: of all, or of each sample where the batch is known, so that it broadcasts."""
    if call.batch is None:
        return function(x)
    axis, share = call.batch.axis, call.batch.multiplier
    moved = x.movedim(axis, 0)
    values = function(moved.reshape(moved.shape[0] // share, -1), 1)
    values = values if share == 1 else values.repeat_interleave(share)
    return values.reshape([-1 if dim == axis else 1 for dim in range(x.dim())])
