"""Resize and Upsample: interpolate where torch has the mode, weights per dimension elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op

_MODES = {"nearest": "nearest", "linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}


@dataclass(frozen=True)
class _Axis:
    """One dimension to resize: its old and new size and the scale that places are computed with."""

    axis: int
    old: int
    new: int
    scale: float


@onnx_op("Upsample")
def upsample_by_attributes(call: Call) -> Tensor:
    """X with every dimension repeated or interpolated by a scale."""
    return _upsampled(call, call.floats("scales") or [])


@onnx_op("Upsample", since=9, numbers=(1,))
def upsample(call: Call) -> Tensor:
    """X with every dimension repeated or interpolated by a scale."""
    return _upsampled(call, call.host(1).items())


def _upsampled(call: Call, scales: list[Any]) -> Tensor:
    x = call.tensor(0)
    axes = _from_scales(call, x, scales, list(range(x.dim())))
    return _resized(call, x, axes, "asymmetric", "floor")


@onnx_op("Resize", numbers=(1,))
def resize_old(call: Call) -> Tensor:
    """Resize of opset 10: scales only."""
    return _upsampled(call, call.host(1).items())


@onnx_op("Resize", since=11, numbers=(1, 2, 3))
def resize(call: Call) -> Tensor:
    """X at other sizes, given as scales or as sizes."""
    x = call.tensor(0)
    chosen = [call.dimension(axis, x.dim()) for axis in call.ints("axes") or range(x.dim())]
    sizes = call.host(3).items() if call.has(3) else []
    if sizes:
        axes = _from_sizes(call, x, sizes, chosen)
    else:
        axes = _from_scales(call, x, call.host(2).items() if call.has(2) else [], chosen)
    coordinates = call.text("coordinate_transformation_mode", "half_pixel")
    if coordinates == "tf_crop_and_resize":
        raise call.node.unsupported("tf_crop_and_resize is not supported: crop and resize separately")
    return _resized(call, x, axes, coordinates, call.text("nearest_mode", "round_prefer_floor"))


def _from_scales(call: Call, x: Tensor, scales: list[Any], chosen: list[int]) -> list[_Axis]:
    if len(scales) != len(chosen):
        raise call.node.malformed(f"it has {len(scales)} scales for {len(chosen)} dimensions")
    found = []
    for axis, scale in zip(chosen, scales, strict=True):
        if isinstance(scale, (int, float)) and scale == 1:
            continue
        if not isinstance(scale, (int, float)) or not 0 < scale < 1e6:
            raise call.node.unsupported("a scale depends on the batch, or is not positive")
        size = _plain_size(call, x, axis)
        found.append(_Axis(axis, size, math.floor(size * scale), float(scale)))
    return found


def _from_sizes(call: Call, x: Tensor, sizes: list[Any], chosen: list[int]) -> list[_Axis]:
    if len(sizes) != len(chosen):
        raise call.node.malformed(f"it has {len(sizes)} sizes for {len(chosen)} dimensions")
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratios = [size / x.shape[axis] for axis, size in zip(chosen, sizes, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        # Halves round up, as the reference implementation does.
        return [_Axis(axis, x.shape[axis], math.floor(x.shape[axis] * ratio + 0.5), ratio) for axis in chosen]
    found = []
    for axis, size in zip(chosen, sizes, strict=True):
        # Batch and channels of an image are never resized, and a fixed batch may be written here.
        if axis == 0 and x.dim() > 2 and len(chosen) == x.dim():
            continue
        old = _plain_size(call, x, axis)
        if old != size:
            found.append(_Axis(axis, old, int(size), int(size) / old))
    return found


def _plain_size(call: Call, x: Tensor, axis: int) -> int:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise call.node.unsupported(f"dimension {axis}, which it resizes, is not fixed")
    return size


def _resized(call: Call, x: Tensor, axes: list[_Axis], coordinates: str, nearest: str) -> Tensor:
    mode = call.text("mode", "nearest")
    mode = {"bilinear": "linear"}.get(mode, mode)
    if mode not in _MODES:
        raise call.node.malformed(f"the mode {mode!r} is unknown")
    if not axes:
        return x
    if _torch_can(call, x, axes, mode, coordinates, nearest):
        return _interpolated(x, axes, mode, coordinates)
    dtype = x.dtype
    x = x if mode == "nearest" else x.float()
    for item in axes:
        places = _places(call, item, coordinates, x.device)
        if mode == "nearest":
            x = x.index_select(item.axis, _rounded(places, nearest).clamp(0, item.old - 1))
        else:
            x = _weighted(call, x, item, places, mode)
    return x.to(dtype)


def _torch_can(call: Call, x: Tensor, axes: list[_Axis], mode: str, coordinates: str, nearest: str) -> bool:
    spatial = x.is_floating_point() and x.dim() in (3, 4, 5) and all(item.axis >= 2 for item in axes)
    if not spatial or call.flag("antialias") or call.flag("exclude_outside"):
        return False
    exact = all(abs(item.new / item.old - item.scale) < 1e-6 * item.scale for item in axes)
    if mode == "nearest":
        whole = all(item.new % item.old == 0 for item in axes)
        floor = coordinates == "asymmetric" and nearest == "floor"
        centre = coordinates in ("half_pixel", "pytorch_half_pixel") and nearest.startswith("round_prefer")
        return exact and (floor or (whole and centre))
    if mode == "cubic" and (x.dim() != 4 or call.real("cubic_coeff_a", -0.75) != -0.75):
        return False
    if coordinates == "pytorch_half_pixel":
        return exact and all(item.new > 1 for item in axes)
    return exact and coordinates in ("half_pixel", "align_corners")


def _interpolated(x: Tensor, axes: list[_Axis], mode: str, coordinates: str) -> Tensor:
    size = list(x.shape[2:])
    for item in axes:
        size[item.axis - 2] = item.new
    if mode == "nearest":
        return F.interpolate(x, size=size, mode="nearest")
    name: Any = _MODES[mode]
    return F.interpolate(x, size=size, mode=name[x.dim()], align_corners=coordinates == "align_corners")


def _places(call: Call, item: _Axis, coordinates: str, device: torch.device) -> Tensor:
    """Where each new position lies among the old ones, [new]."""
    new = torch.arange(item.new, device=device, dtype=torch.float64)
    if coordinates in ("half_pixel", "pytorch_half_pixel"):
        if coordinates == "pytorch_half_pixel" and item.new == 1:
            return torch.zeros_like(new)
        return (new + 0.5) / item.scale - 0.5
    if coordinates == "half_pixel_symmetric":
        exact = item.old * item.scale
        centre = item.old / 2
        return centre * (1 - item.new / exact) + (new + 0.5) / item.scale - 0.5
    if coordinates == "align_corners":
        return new * ((item.old - 1) / (item.old * item.scale - 1)) if item.new > 1 else torch.zeros_like(new)
    if coordinates == "asymmetric":
        return new / item.scale
    if coordinates == "tf_half_pixel_for_nn":
        return (new + 0.5) / item.scale
    raise call.node.unsupported(f"the coordinate transformation {coordinates!r} is not supported")


def _rounded(places: Tensor, mode: str) -> Tensor:
    if mode == "floor":
        return torch.floor(places).long()
    if mode == "ceil":
        return torch.ceil(places).long()
    if mode == "round_prefer_ceil":
        return torch.floor(places + 0.5).long()
    return torch.ceil(places - 0.5).long()


def _weighted(call: Call, x: Tensor, item: _Axis, places: Tensor, mode: str) -> Tensor:
    """W·x along one dimension, with W [new, old] of the interpolation's weights."""
    support = 1.0 if mode == "linear" else 2.0
    stretch = max(1.0, 1.0 / item.scale) if call.flag("antialias") else 1.0
    reach = math.ceil(support * stretch) + 1
    # Taps around each place; those outside take the border's value, or no part.
    taps = torch.floor(places).long().unsqueeze(1) + torch.arange(-reach, reach + 1, device=x.device)
    distance = (places.unsqueeze(1) - taps).abs() / stretch
    a = call.real("cubic_coeff_a", -0.75)
    weights = torch.clamp(1 - distance, min=0) if mode == "linear" else _cubic(distance, a)
    outside = (taps < 0) | (taps >= item.old)
    if call.flag("exclude_outside"):
        weights = torch.where(outside, 0.0, weights)
    weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(item.new, item.old, dtype=torch.float64, device=x.device)
    matrix = matrix.scatter_add(1, taps.clamp(0, item.old - 1), weights).to(x.dtype)
    return torch.matmul(x.movedim(item.axis, -1), matrix.t()).movedim(-1, item.axis)


def _cubic(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
