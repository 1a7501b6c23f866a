"""Pools over windows and over everything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.ops.windows import Window, pad_list, read_window
from snnconvert.models.onnx.table import onnx_op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _kernel(call: Call) -> list[int]:
    kernel = call.ints("kernel_shape")
    if not kernel or len(kernel) not in _MAX:
        raise call.node.malformed("its kernel_shape is missing, or not of one to three dimensions")
    return kernel


@onnx_op("MaxPool")
def max_pool(call: Call) -> Tensor:
    """The largest value of each window; pads never win."""
    if call.outputs > 1 and call.node.outputs[1] is not None:
        raise call.node.unsupported("its second output, the positions of the largest values, is not supported")
    x = call.tensor(0)
    integer = not x.is_floating_point()
    dtype, x = x.dtype, x.float() if integer else x
    window = read_window(call, x, _kernel(call))
    ceil = call.flag("ceil_mode")
    if _is_plain(window) and not ceil:
        padding = window.pads[: len(window.kernel)]
    else:
        x, padding = _padded(x, window, float("-inf"), ceil), [0] * len(window.kernel)
    function: Any = _MAX[len(window.kernel)]
    result: Tensor = function(x, window.kernel, window.strides, padding, window.dilations)
    return result.to(dtype) if integer else result


@onnx_op("AveragePool")
def average_pool(call: Call) -> Tensor:
    """The mean of each window; of the values inside the input only, unless pads count."""
    x = call.tensor(0)
    window = read_window(call, x, _kernel(call))
    ceil, with_pads = call.flag("ceil_mode"), call.flag("count_include_pad")
    function: Any = _AVERAGE[len(window.kernel)]
    flat = all(dilation == 1 for dilation in window.dilations)
    covered = not ceil or _ceil_extra(x, window) == [0] * len(window.kernel)
    if flat and covered and _is_plain(window):
        padding = window.pads[: len(window.kernel)]
        plain: Tensor = function(x, window.kernel, window.strides, padding, False, with_pads)
        return plain
    sums = _window_sums(_padded(x, window, 0.0, ceil), window)
    ones = torch.ones_like(x[:1, :1])
    counted = _padded_ones(ones, window, with_pads, ceil)
    return sums / _window_sums(counted, window)


@onnx_op("LpPool")
def lp_pool(call: Call) -> Tensor:
    """(Σ |x|^p)^(1/p) of each window."""
    x, p = call.tensor(0), call.integer("p", 2)
    window = read_window(call, x, _kernel(call))
    powers = _padded(x.abs() ** p, window, 0.0, call.flag("ceil_mode"))
    return _window_sums(powers, window) ** (1.0 / p)


@onnx_op("GlobalAveragePool")
def global_average_pool(call: Call) -> Tensor:
    """The mean of each channel, kept as [N, C, 1, ...]."""
    x = call.tensor(0)
    return F.adaptive_avg_pool2d(x, 1) if x.dim() == 4 else x.mean(list(range(2, x.dim())), keepdim=True)


@onnx_op("GlobalMaxPool")
def global_max_pool(call: Call) -> Tensor:
    """The largest value of each channel, kept as [N, C, 1, ...]."""
    x = call.tensor(0)
    return F.max_pool2d(x, list(x.shape[2:])) if x.dim() == 4 else x.amax(list(range(2, x.dim())), keepdim=True)


@onnx_op("GlobalLpPool")
def global_lp_pool(call: Call) -> Tensor:
    """(Σ |x|^p)^(1/p) of each channel, kept as [N, C, 1, ...]."""
    x, p = call.tensor(0), call.integer("p", 2)
    return (x.abs() ** p).sum(list(range(2, x.dim())), keepdim=True) ** (1.0 / p)


def _is_plain(window: Window) -> bool:
    """Whether torch's own symmetric padding, at most half a kernel, does it."""
    rank = len(window.kernel)
    begins, ends = window.pads[:rank], window.pads[rank:]
    small = all(0 <= 2 * pad <= kernel for pad, kernel in zip(begins, window.kernel, strict=True))
    return begins == ends and small


def _ceil_extra(x: Tensor, window: Window) -> list[Any]:
    """Values to add behind each dimension so that windows which begin inside input or pad are complete."""
    rank, extras = len(window.kernel), []
    for axis in range(rank):
        reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        begin, end, stride = window.pads[axis], window.pads[rank + axis], window.strides[axis]
        extent = x.shape[2 + axis] + begin + end
        steps = -((reach - extent) // stride) + 1
        if (steps - 1) * stride >= x.shape[2 + axis] + begin:
            steps -= 1
        extras.append(max((steps - 1) * stride + reach - extent, 0))
    return extras


def _padded(x: Tensor, window: Window, value: float, ceil: bool) -> Tensor:
    rank = len(window.kernel)
    extras = _ceil_extra(x, window) if ceil else [0] * rank
    ends = [end + extra for end, extra in zip(window.pads[rank:], extras, strict=True)]
    return F.pad(x, pad_list(window.pads[:rank], ends), value=value)


def _padded_ones(ones: Tensor, window: Window, with_pads: bool, ceil: bool) -> Tensor:
    rank = len(window.kernel)
    extras = _ceil_extra(ones, window) if ceil else [0] * rank
    inside = 1.0 if with_pads else 0.0
    counted = F.pad(ones, pad_list(window.pads[:rank], window.pads[rank:]), value=inside)
    return F.pad(counted, pad_list([0] * rank, extras))


def _window_sums(x: Tensor, window: Window) -> Tensor:
    """Σ x over each window of a padded input, dilated or not, [N, C, ...]."""
    for axis, (kernel, stride, dilation) in enumerate(
        zip(window.kernel, window.strides, window.dilations, strict=True)
    ):
        dimension = 2 + axis
        steps = (x.shape[dimension] - (kernel - 1) * dilation - 1) // stride + 1
        taps = [
            x.narrow(dimension, tap * dilation, (steps - 1) * stride + 1)[
                (slice(None),) * dimension + (slice(None, None, stride),)
            ]
            for tap in range(kernel)
        ]
        x = torch.stack(taps).sum(0)
    return x
