"""Convolutions: asymmetric and automatic pads become explicit ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.ops.windows import Window, read_window, split_pads
from snnconvert.models.onnx.table import onnx_op

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_WEIGHTS = {1: "weight", 2: "bias"}


@onnx_op("Conv", weights=_WEIGHTS)
def conv(call: Call) -> Tensor:
    """W*x + b."""
    return convolve(call, call.tensor(0), call.tensor(1), call.maybe(2))


def convolve(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W*x + b with the window that the call's attributes give."""
    rank = weight.dim() - 2
    if rank not in _CONVOLUTIONS or x.dim() != rank + 2:
        raise call.node.malformed(f"it convolves {list(x.shape)} with weights {list(weight.shape)}")
    window = read_window(call, x, list(weight.shape[2:]))
    x, padding = split_pads(x, window, 0.0)
    function: Any = _CONVOLUTIONS[rank]
    result: Tensor = function(x, weight, bias, window.strides, padding, window.dilations, call.integer("group", 1))
    return result


@onnx_op("ConvTranspose", weights=_WEIGHTS)
def conv_transpose(call: Call) -> Tensor:
    """The transpose of a convolution; pads cut the result."""
    x, weight = call.tensor(0), call.tensor(1)
    rank = weight.dim() - 2
    if rank not in _TRANSPOSED or x.dim() != rank + 2:
        raise call.node.malformed(f"it convolves {list(x.shape)} with weights {list(weight.shape)}")
    window = read_window(call, x, list(weight.shape[2:]), transposed=True)
    begins, ends = window.pads[:rank], window.pads[rank:]
    extra = call.ints("output_padding") or [0] * rank
    # The result loses `begin` values before and `end` behind; output_padding adds behind.
    padding = [max(0, min(begin, end)) for begin, end in zip(begins, ends, strict=True)]
    function: Any = _TRANSPOSED[rank]
    fits = all(e < max(s, d) for e, s, d in zip(extra, window.strides, window.dilations, strict=True))
    result: Tensor = function(
        x, weight, call.maybe(2), window.strides, padding, extra if fits else [0] * rank, call.integer("group", 1),
        window.dilations,
    )  # fmt: skip
    if not fits:
        result = _with_extra(result, extra, call.maybe(2))
    return _cut(result, [b - p for b, p in zip(begins, padding, strict=True)],
                [e - p for e, p in zip(ends, padding, strict=True)])  # fmt: skip


def _with_extra(x: Tensor, extra: list[int], bias: Tensor | None) -> Tensor:
    pads = [side for amount in reversed(extra) for side in (0, amount)]
    if bias is None:
        return F.pad(x, pads)
    shaped = bias.reshape(-1, *[1] * len(extra))
    return F.pad(x - shaped, pads) + shaped


def _cut(x: Tensor, begins: list[int], ends: list[int]) -> Tensor:
    if not any(begins) and not any(ends):
        return x
    return F.pad(x, [side for begin, end in zip(begins[::-1], ends[::-1], strict=True) for side in (-begin, -end)])


__all__ = ["Window", "conv", "conv_transpose", "convolve"]
