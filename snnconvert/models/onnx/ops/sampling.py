"""Sampling at computed places."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@onnx_op("GridSample")
def grid_sample(call: Call) -> Tensor:
    """X at the places of a grid in −1..1."""
    mode = call.text("mode", "linear" if call.opset >= 20 else "bilinear")
    return F.grid_sample(
        call.tensor(0),
        call.tensor(1),
        mode=_MODES.get(mode, mode),
        padding_mode=call.text("padding_mode", "zeros"),
        align_corners=call.flag("align_corners"),
    )


@onnx_op("AffineGrid", numbers=(1,))
def affine_grid(call: Call) -> Tensor:
    """Places of an image after an affine map."""
    return F.affine_grid(call.tensor(0), call.host(1).items(), align_corners=call.flag("align_corners"))
