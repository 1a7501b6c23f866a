"""Arithmetic of shapes: plain numbers in, plain numbers out."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.dtypes import TORCH_TYPES
from snnconvert.models.onnx.table import host_op
from snnconvert.models.onnx.values import HostArray


def _divide(left: Any, right: Any) -> Any:
    """left/right; of integers towards zero. Symbolic sizes are never negative."""
    if isinstance(left, (float, torch.SymFloat)) or isinstance(right, (float, torch.SymFloat)):
        return left / right
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left // right


def _maximum(left: Any, right: Any) -> Any:
    return torch.sym_max(left, right)


def _minimum(left: Any, right: Any) -> Any:
    return torch.sym_min(left, right)


def _binary(function: Callable[[Any, Any], Any], dtype: torch.dtype | None = None) -> Callable[[Call], HostArray]:
    vectorized = np.frompyfunc(function, 2, 1)

    def run(call: Call) -> HostArray:
        result = call.host(0)
        for position in range(1, len(call.values)):
            result = result.with_values(vectorized(result.values, call.host(position).values), dtype)
        return result

    return run


for _name, _function in {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": _divide, "Mod": operator.mod,
    "Max": _maximum, "Min": _minimum, "Sum": operator.add, "Pow": operator.pow,
}.items():  # fmt: skip
    host_op(_name)(_binary(_function))

for _name, _function in {
    "Equal": operator.eq, "Less": operator.lt, "LessOrEqual": operator.le, "Greater": operator.gt,
    "GreaterOrEqual": operator.ge, "And": lambda a, b: bool(a) and bool(b), "Or": lambda a, b: bool(a) or bool(b),
}.items():  # fmt: skip
    host_op(_name)(_binary(_function, torch.bool))


def _unary(function: Callable[[Any], Any], dtype: torch.dtype | None = None) -> Callable[[Call], HostArray]:
    def run(call: Call) -> HostArray:
        return call.host(0).map(function, dtype)

    return run


def _floor(item: Any) -> Any:
    return float(math.floor(item)) if isinstance(item, float) else item


def _ceil(item: Any) -> Any:
    return float(math.ceil(item)) if isinstance(item, float) else item


for _name, _unary_function in {
    "Neg": operator.neg, "Abs": abs, "Floor": _floor, "Ceil": _ceil, "Round": lambda item: float(round(item)),
    "Sqrt": torch.sym_sqrt, "Reciprocal": lambda item: 1.0 / item,
}.items():  # fmt: skip
    host_op(_name)(_unary(_unary_function))
host_op("Not")(_unary(lambda item: not item))


@host_op("Cast")
def cast(call: Call) -> HostArray:
    """The numbers in another type."""
    target = call.integer("to", 0)
    if target not in TORCH_TYPES:
        raise call.node.unsupported("it casts to a type of texts, complex or 8-bit floating numbers")
    return _converted(call.host(0), TORCH_TYPES[target])


@host_op("CastLike")
def cast_like(call: Call) -> HostArray:
    """The numbers in the type of others."""
    return _converted(call.host(0), call.host(1).dtype)


def _converted(array: HostArray, dtype: torch.dtype) -> HostArray:
    if dtype.is_floating_point:
        return array.map(torch.sym_float, dtype)
    if dtype is torch.bool:
        return array.map(bool, dtype)
    return array.map(lambda item: int(item) if isinstance(item, (bool, float)) else item, dtype)


@host_op("Clip")
def clip(call: Call) -> HostArray:
    """min(max(x, low), high), with limits from attributes or inputs."""
    result = call.host(0)
    for position, name, limit in ((1, "min", _maximum), (2, "max", _minimum)):
        bound = call.number(position) if call.has(position) else call.node.attributes.get(name)
        if bound is not None:
            result = result.map(partial(limit, bound))
    return result


@host_op("Where")
def where(call: Call) -> HostArray:
    """A where the condition holds, else b."""
    choose = np.frompyfunc(lambda condition, left, right: left if condition else right, 3, 1)
    chosen = choose(call.host(0).values, call.host(1).values, call.host(2).values)
    return call.host(1).with_values(chosen)
