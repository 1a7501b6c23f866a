"""Comparisons, logic and choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op

_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor, "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
}  # fmt: skip


def _register(name: str, function: Callable[[Any, Any], Tensor]) -> None:
    @onnx_op(name)
    def run(call: Call) -> Tensor:
        return function(call.tensor(0), call.tensor(1))


for _name, _function in _BINARY.items():
    _register(_name, _function)


@onnx_op("Where")
def where(call: Call) -> Tensor:
    """A where the condition holds, else b."""
    return torch.where(call.tensor(0), call.tensor(1), call.tensor(2))
