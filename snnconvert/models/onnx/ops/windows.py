"""Kernels, strides, dilations and pads of windows that slide over an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call


@dataclass(frozen=True)
class Window:
    """A sliding window in R spatial dimensions.

    Attributes:
        kernel: Its size, [R].
        strides: Its steps, [R].
        dilations: Distances of its taps, [R].
        pads: Values added before each dimension, then behind each, [2R].
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[Any]


def read_window(call: Call, x: Tensor, kernel: list[int], *, transposed: bool = False) -> Window:
    """The window that a node's attributes describe over an input [N, C, ...].

    Raises:
        InputError: if they are of different lengths, or out of range.
    """
    rank = len(kernel)
    strides = call.ints("strides") or [1] * rank
    dilations = call.ints("dilations") or [1] * rank
    declared = call.ints("kernel_shape") or kernel
    if x.dim() != rank + 2 or not rank == len(strides) == len(dilations):
        raise call.node.malformed(f"its attributes don't fit an input of shape {list(x.shape)}")
    if min([*strides, *dilations, *kernel]) < 1 or declared != kernel:
        raise call.node.malformed("its kernel, strides or dilations are not positive, or don't fit its weights")
    size = list(x.shape[2:])
    if transposed:
        pads = _transposed_pads(call, size, Window(kernel, strides, dilations, []))
    else:
        pads = _pads(call, size, Window(kernel, strides, dilations, []))
    if len(pads) != 2 * rank:
        raise call.node.malformed(f"it has {len(pads)} pads and needs {2 * rank}")
    return Window(kernel, strides, dilations, pads)


def _pads(call: Call, size: list[Any], window: Window) -> list[Any]:
    rank, mode = len(size), call.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return list(call.ints("pads") or [0] * 2 * rank)
    if mode == "VALID":
        return [0] * 2 * rank
    totals = []
    for extent, kernel, stride, dilation in zip(size, window.kernel, window.strides, window.dilations, strict=True):
        steps = (extent + stride - 1) // stride
        totals.append(max((steps - 1) * stride + (kernel - 1) * dilation + 1 - extent, 0))
    return _shared(totals, upper=mode == "SAME_UPPER")


def _transposed_pads(call: Call, size: list[Any], window: Window) -> list[Any]:
    rank, mode = len(size), call.text("auto_pad", "NOTSET")
    wanted = call.ints("output_shape")
    extra = call.ints("output_padding") or [0] * rank
    if len(extra) != rank:
        raise call.node.malformed(f"it has {len(extra)} output_padding values and needs {rank}")
    full = [
        (extent - 1) * stride + (kernel - 1) * dilation + 1 + more
        for extent, kernel, stride, dilation, more in zip(
            size, window.kernel, window.strides, window.dilations, extra, strict=True
        )
    ]
    if wanted is not None:
        totals = [have - want for have, want in zip(full, wanted[-rank:], strict=True)]
        return _shared(totals, upper=mode == "SAME_UPPER")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max(have - n * s, 0) for have, n, s in zip(full, size, window.strides, strict=True)]
        return _shared(totals, upper=mode == "SAME_UPPER")
    return list(call.ints("pads") or [0] * 2 * rank) if mode != "VALID" else [0] * 2 * rank


def _shared(totals: list[Any], *, upper: bool) -> list[Any]:
    """Each total split into two halves; the odd one goes behind (upper) or before."""
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    return [*small, *large] if upper else [*large, *small]


def split_pads(x: Tensor, window: Window, value: float) -> tuple[Tensor, list[Any]]:
    """The input padded as far as torch's own symmetric padding can't, and that symmetric rest."""
    rank = len(window.kernel)
    begins, ends = window.pads[:rank], window.pads[rank:]
    if begins == ends and all(pad >= 0 for pad in begins):
        return x, begins
    return F.pad(x, pad_list(begins, ends), value=value), [0] * rank


def pad_list(begins: list[Any], ends: list[Any]) -> list[Any]:
    """Pads in torch's order: the last dimension first, before and behind in turn."""
    return [side for begin, end in zip(begins[::-1], ends[::-1], strict=True) for side in (begin, end)]
