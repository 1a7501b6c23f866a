"""Reductions over dimensions, positions of extremes, and running sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.float().mean(axes, keepdim=keep).to(x.dtype)


def _extreme(function: Callable[..., Tensor]) -> Reduction:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        flags = x.dtype is torch.bool
        result: Tensor = function(x.to(torch.uint8) if flags else x, axes, keepdim=keep)
        return result.to(torch.bool) if flags else result

    return run


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extreme(torch.amax),
    "ReduceMin": _extreme(torch.amin),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.sqrt(_sum(x * x, axes, keep).float()).to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: torch.log(_sum(x, axes, keep)),
    "ReduceLogSumExp": _log_sum_exp,
}
_EMPTY: dict[str, float] = {"ReduceMax": float("-inf"), "ReduceMin": float("inf")}


def _register(name: str, function: Reduction) -> None:
    @onnx_op(name, numbers=(1,))
    def run(call: Call) -> Tensor:
        x, keep = call.tensor(0), call.flag("keepdims", True)
        axes = call.numbers("axes", 1)
        if not axes:
            if call.flag("noop_with_empty_axes"):
                return function(x.unsqueeze(0), [0], False)
            axes = list(range(x.dim()))
        if not axes:
            return function(x.unsqueeze(0), [0], False)
        if name in _EMPTY and any(isinstance(size := x.shape[axis], int) and size == 0 for axis in axes):
            flags = x.dtype is torch.bool
            return torch.full_like(_sum(x, axes, keep), _EMPTY[name] > 0 if flags else _EMPTY[name])
        return function(x, axes, keep)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function)


def _arg_extreme(function: Callable[..., Tensor]) -> Callable[[Call], Tensor]:
    def run(call: Call) -> Tensor:
        x, keep = call.tensor(0), call.flag("keepdims", True)
        axis = call.axis(0, x.dim())
        if not call.flag("select_last_index"):
            return function(x, axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)

    return run


onnx_op("ArgMax")(_arg_extreme(torch.argmax))
onnx_op("ArgMin")(_arg_extreme(torch.argmin))


def _running(function: Callable[..., Tensor], neutral: float) -> Callable[[Call], Tensor]:
    def run(call: Call) -> Tensor:
        x = call.tensor(0)
        axis = call.dimension(int(call.number(1)), x.dim())
        x = x.flip(axis) if call.flag("reverse") else x
        if call.flag("exclusive"):
            head = torch.full_like(x.narrow(axis, 0, 1), neutral)
            x = torch.cat([head, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        x = function(x, axis).to(x.dtype)
        return x.flip(axis) if call.flag("reverse") else x

    return run


onnx_op("CumSum", numbers=(1,))(_running(torch.cumsum, 0.0))
onnx_op("CumProd", numbers=(1,))(_running(torch.cumprod, 1.0))
