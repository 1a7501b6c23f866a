"""Constants in all their forms."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op
from snnconvert.models.onnx.values import Constant

_TYPES = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


@onnx_op("Constant")
def constant(call: Call) -> Tensor:
    """The value that the node holds."""
    value = call.node.attributes.get("value")
    if isinstance(value, Constant):
        return value.tensor
    for name, dtype in _TYPES.items():
        if name in call.node.attributes:
            return torch.tensor(call.node.attributes[name], dtype=dtype)
    raise call.node.unsupported("it holds a text or a sparse tensor, or nothing")
