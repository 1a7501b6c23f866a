"""Which composite operators a capture writes out: those that hide products, or that no pass and no saved graph knows.

glu(x) = a∘σ(b), lstm_cell(x, h) = …, tensordot(x, W) = reshape(x)·reshape(W): the rules are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.export import default_decompositions

_WRITTEN_OUT = frozenset(
    {
        "glu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "baddbmm", "tensordot", "inner",
        "chain_matmul", "linalg_multi_dot", "linalg_matmul", "matrix_power", "cosine_similarity",
        "pairwise_distance", "special_expit", "special_ndtr", "special_erf", "special_erfc", "special_exp2",
        "special_expm1", "special_log1p", "special_round", "special_softmax", "special_log_softmax", "arctan",
        "arctan2", "arcsin", "arccos", "arcsinh", "arccosh", "arctanh", "absolute", "negative", "fix", "clip",
        "multiply", "divide", "true_divide", "subtract", "greater", "greater_equal", "less", "less_equal",
        "not_equal", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack", "row_stack", "fliplr",
        "flipud", "rot90", "diff", "take_along_dim", "broadcast_tensors", "_weight_norm", "cov", "hardshrink",
        "softshrink", "affine_grid_generator", "grid_sampler", "stft", "istft",
    }
)  # fmt: skip


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Torch's rules for the operators above, in a table of the caller's own: torch takes entries out of it."""
    return dict(_rules())


@cache
def _rules() -> dict[Any, Callable[..., Any]]:
    table: dict[Any, Callable[..., Any]] = dict(default_decompositions())
    return {
        operator: rule
        for operator, rule in table.items()
        if isinstance(operator, torch._ops.OpOverload)
        and operator.namespace == "aten"
        and operator.overloadpacket.__name__ in _WRITTEN_OUT
    }
