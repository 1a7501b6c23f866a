"""f(c) = c': what follows from constants alone is computed once, after its size has been proven small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconvert.errors import InputError, SnnConvertError, first_line
from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.dry_run import dry_run
from snnconvert.models.onnx.limits import (
    MOST_FOLDED_ELEMENTS,
    MOST_FOLDED_PRODUCTS,
    MOST_HOST_ELEMENTS,
    MOST_HOST_RESULT,
    MOST_REPEATED_ELEMENTS,
)
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import find_op, unpack
from snnconvert.models.onnx.values import HostArray, as_tensor

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "Attention"})
_REPEATING = frozenset({"ConstantOfShape", "Expand"})
_NEVER_LARGER = frozenset(
    {
        "Constant",
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Size",
        "Slice",
    }
)


def host_form(tensor: Tensor) -> HostArray | None:
    """A constant as plain numbers, or None if it is too large to be a shape."""
    return HostArray.from_tensor(tensor) if tensor.numel() <= MOST_HOST_ELEMENTS else None


@dataclass
class Folder:
    """Computes nodes whose inputs are all constants, within a budget.

    Attributes:
        budget: Elements that may still be computed.
        repeats: Elements that may still be declared as one repeated number.
    """

    budget: int
    repeats: int = MOST_REPEATED_ELEMENTS

    @classmethod
    def for_file(cls, size: int) -> Folder:
        """A budget for a file of that many bytes."""
        return cls(MOST_FOLDED_ELEMENTS + 4 * size)

    def fold(self, node: OnnxNode, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The node's outputs.

        Raises:
            InputError: if they are too large, or the node fails on its constants.
            ConversionError: if the node isn't supported on constants.
        """
        hosts = tuple(None if value is None else host_form(value) for value in inputs)
        call = Call(node, tuple(inputs), hosts)
        try:
            with torch.no_grad():
                if node.op_type in _NEVER_LARGER | _REPEATING:  # these take no memory, so they are run at once
                    outputs = tuple(_stored(value) for value in _run(call))
                    self._spend(node, inputs, outputs)
                    return outputs
                self._spend(node, inputs, self._shapes(call))
                return tuple(_stored(value) for value in _run(call))
        except SnnConvertError:
            raise
        except Exception as error:  # torch raises many types on inputs that don't fit
            raise node.malformed(f"it fails on its constant inputs: {first_line(error)}") from error

    def _shapes(self, call: Call) -> list[Tensor]:
        with dry_run() as mode:
            values = tuple(mode.from_tensor(v) if isinstance(v, Tensor) else v for v in call.values)
            return [as_tensor(value) for value in _run(Call(call.node, values, call.hosts)) if value is not None]

    def _spend(self, node: OnnxNode, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> None:
        total = sum(math.prod(value.shape) for value in outputs)
        if node.op_type in _REPEATING:
            self.repeats -= total
        elif node.op_type != "Constant":
            self.budget -= total
        if self.budget < 0 or self.repeats < 0:
            raise node.malformed(f"it computes {total} elements from constants, more than a network needs")
        sizes = [value.numel() for value in inputs if value is not None]
        if node.op_type in _PRODUCTS and math.sqrt(math.prod(map(float, sizes[:2])) * total) > MOST_FOLDED_PRODUCTS:
            raise node.malformed("its product of constants is larger than a network needs")


def _run(call: Call) -> tuple[Any, ...]:
    entry = find_op(call.node.domain, call.node.op_type, call.node.opset)
    if entry is None:
        raise call.node.unsupported("this operator is not supported")
    return unpack(entry.run(call))


def _stored(value: Any) -> Tensor:
    if isinstance(value, HostArray) and value.values.size > MOST_HOST_RESULT:
        raise InputError(f"a shape of {value.values.size} numbers is larger than a network needs")
    return as_tensor(value)
