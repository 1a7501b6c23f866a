"""Element-wise work of one operator of torch: steps of arithmetic for each element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Elementary steps of one element: softmax subtracts a maximum it looked for, raises, sums and divides; a norm sums,
# subtracts, squares, sums, scales by a root, and has a gain and a bias; a batch norm that is fixed scales and shifts.
_STEPS = {
    "native_batch_norm": 2, "_native_batch_norm_legit": 2, "_native_batch_norm_legit_no_training": 2,
    "cudnn_batch_norm": 2, "batch_norm": 2, "_batch_norm_no_update": 2, "_softmax": 5, "_log_softmax": 5,
    "_safe_softmax": 5, "native_layer_norm": 7, "native_group_norm": 7, "_fused_rms_norm": 5,
}  # fmt: skip
_OF_WINDOWS = ("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
_OF_INPUTS = ("mean", "sum", "amax", "amin", "max", "min", "prod", "cumsum", "var", "var_mean", "std", "norm", "argmax",
              "linalg_vector_norm", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d")  # fmt: skip
DECISIONS = ("ge", "gt", "le", "lt", "heaviside", "sign", "sgn", "round", "round_", "floor", "floor_", "ceil",
             "bucketize", "bernoulli")  # fmt: skip
_COPIES = ("clone", "copy", "copy_", "_to_copy", "fill", "fill_", "zero_", "detach", "lift_fresh", "alias",
           "masked_fill", "masked_fill_")  # fmt: skip


def name_of(func: Any) -> str:
    """An operator's name without its overload."""
    return str(getattr(getattr(func, "overloadpacket", func), "__name__", func))


def plain_name(name: str) -> str:
    """An operator's name as users know it: batch_norm for what torch makes of one."""
    bare = name.strip("_").removeprefix("native_").removesuffix("_with_indices")
    return "batch_norm" if "batch_norm" in bare else bare


def operations_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Element-wise operations of one operator on floating-point numbers; 0 where it computes none.

    One for each element of the result of a function or of a sum of two; softmax takes five for each, a norm seven, a
    batch norm two; pools, means and sums one for each element they look at.
    """
    read = next((item for item in (*args, *kwargs.values()) if isinstance(item, Tensor)), None)
    given = first_tensor(result)
    if read is None or given is None or not (read.is_floating_point() or given.is_floating_point()):
        return 0
    name = name_of(func)
    if name in _STEPS:
        return given.numel() * _STEPS[name]
    if name in _OF_WINDOWS:
        return given.numel() * _window(args, kwargs, given.dim() - 2 if given.dim() > 3 else 2)
    if name in _OF_INPUTS:
        return read.numel()
    return given.numel() if torch.Tag.pointwise in func.tags and name not in _COPIES else 0


def first_tensor(result: Any) -> Tensor | None:
    """A result, or the first of several."""
    if isinstance(result, (list, tuple)):
        return next((item for item in result if isinstance(item, Tensor)), None)
    return result if isinstance(result, Tensor) else None


def _window(args: Sequence[Any], kwargs: Mapping[str, Any], spatial: int) -> int:
    sizes = list(kwargs.get("kernel_size", args[1] if len(args) > 1 else [1]))
    return math.prod(sizes * spatial if len(sizes) == 1 else sizes)
