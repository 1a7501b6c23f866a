"""Pads at the borders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.ops.windows import pad_list
from snnconvert.models.onnx.table import onnx_op


@onnx_op("Pad")
def pad_by_attributes(call: Call) -> Tensor:
    """X with borders, sizes and value from attributes."""
    return _padded(call, call.tensor(0), call.ints("pads") or [], call.real("value", 0.0), None)


@onnx_op("Pad", since=11, numbers=(1, 3), scalars=True)
def pad(call: Call) -> Tensor:
    """X with borders, sizes and value from inputs."""
    x = call.tensor(0)
    value = call.number(2) if call.has(2) else 0
    axes = call.host(3).items() if call.has(3) else None
    return _padded(call, x, call.host(1).items(), value, axes)


def _padded(call: Call, x: Tensor, pads: list[Any], value: Any, axes: list[int] | None) -> Tensor:
    rank = x.dim()
    chosen = list(range(rank)) if axes is None else [call.dimension(axis, rank) for axis in axes]
    if len(pads) != 2 * len(chosen):
        raise call.node.malformed(f"it has {len(pads)} pads for {len(chosen)} dimensions")
    begins, ends = [0] * rank, [0] * rank
    for index, axis in enumerate(chosen):
        begins[axis], ends[axis] = pads[index], pads[index + len(chosen)]
    mode = call.text("mode", "constant")
    if mode == "constant":
        return _constant(x, begins, ends, value)
    if mode not in ("reflect", "edge", "wrap"):
        raise call.node.malformed(f"the mode {mode!r} is unknown")
    if _fits_torch(x, begins, ends):
        return _by_torch(x, begins, ends, {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode])
    for axis in range(rank):
        x = _indexed(x, axis, begins[axis], ends[axis], mode)
    return x


def _constant(x: Tensor, begins: list[Any], ends: list[Any], value: Any) -> Tensor:
    used = [axis for axis in range(x.dim()) if _is_set(begins[axis]) or _is_set(ends[axis])]
    if not used:
        return x
    first = used[0]
    if x.dtype is torch.bool:
        return F.pad(x.to(torch.uint8), pad_list(begins[first:], ends[first:]), value=int(value)).to(torch.bool)
    return F.pad(x, pad_list(begins[first:], ends[first:]), value=value)


def _is_set(amount: Any) -> bool:
    return not isinstance(amount, int) or amount != 0


def _fits_torch(x: Tensor, begins: list[Any], ends: list[Any]) -> bool:
    outer = any(map(_is_set, [*begins[:2], *ends[:2]]))
    sizes = zip([*begins[2:], *ends[2:]], [*x.shape[2:]] * 2, strict=True)
    return x.dim() in (3, 4, 5) and not outer and x.is_floating_point() and all(0 <= pad < n for pad, n in sizes)


def _by_torch(x: Tensor, begins: list[Any], ends: list[Any], mode: str) -> Tensor:
    return F.pad(x, pad_list(begins[2:], ends[2:]), mode=mode)


def _indexed(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """X at the places the mode names, along one dimension."""
    if not begin and not end:
        return x
    size = x.shape[axis]
    places = torch.arange(-begin, size + end, device=x.device)
    if mode == "edge":
        places = places.clamp(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        period = max(2 * (size - 1), 1)
        places = places.abs() % period
        places = torch.minimum(places, period - places)
    return x.index_select(axis, places)


@onnx_op("CenterCropPad", numbers=(1,))
def center_crop_pad(call: Call) -> Tensor:
    """X cropped or padded with zeros around its centre to the given sizes."""
    x, target = call.tensor(0), call.host(1).items()
    axes = call.ints("axes") or list(range(x.dim()))
    for axis, wanted in zip(axes, target, strict=True):
        axis = call.dimension(axis, x.dim())
        size = x.shape[axis]
        if size > wanted:
            x = x.narrow(axis, (size - wanted) // 2, wanted)
        elif size < wanted:
            before = (wanted - size) // 2
            pads = [0] * (2 * (x.dim() - 1 - axis)) + [before, wanted - size - before]
            x = F.pad(x, pads)
    return x
