"""The operators of torch that are synapses: their operands, their multiply-accumulates, their channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
MATMUL = "matmul"


@dataclass(frozen=True)
class Call:
    """One call of a bilinear operator.

    Attributes:
        op: its name.
        left: the first operand.
        right: the second one.
        macs: multiply-accumulates.
        outputs: values it gives.
        fan_in: products that one of them adds up, in the mean.
        right_rows: the second operand [outputs, ...], one row for each output channel.
        left_rows: the same of the first one, where that may be the weight.
        channels: the dimensions of channels of both operands.
        hidden: whether the first operand is a result inside the operator, real numbers computed from ``left``.
    """

    op: str
    left: Tensor
    right: Tensor
    macs: int
    outputs: int
    fan_in: int
    right_rows: Tensor
    left_rows: Tensor | None
    channels: tuple[int, int]
    hidden: bool = False


def calls_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> list[Call]:
    """The bilinear operations of one operator; none for any other.

    Args:
        func: an overload of aten.
        args: its positional arguments.
        kwargs: those by name.
        result: what it returned.
    """
    reader = _READERS.get(getattr(func, "overloadpacket", None))
    if reader is None:
        return []
    names = [argument.name for argument in func._schema.arguments]
    return reader({**dict(zip(names, args, strict=False)), **kwargs}, result)


def _convolution(given: Mapping[str, Any], result: Any) -> list[Call]:
    read, weight = given["input"], given["weight"]
    transposed, groups = bool(given.get("transposed", False)), int(given.get("groups", 1))
    each = math.prod(weight.shape[1:])
    rows = weight
    if transposed:
        rows = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    name = f"conv{'_transpose' if transposed else ''}{weight.dim() - 2}d"
    macs = (read if transposed else result).numel() * each
    fan_in = round(macs / max(result.numel(), 1))
    return [Call(name, read, weight, macs, result.numel(), fan_in, rows, None, (1, 1))]


def _matrices(first: str, second: str) -> Callable[[Mapping[str, Any], Any], list[Call]]:
    def read(given: Mapping[str, Any], _: Any) -> list[Call]:
        left, right = given[first], given[second]
        terms = left.shape[-1]
        columns = right if right.dim() > 1 else right[:, None]
        by_output = _one_if_expanded(columns).mT.reshape(-1, terms)
        rows = _one_if_expanded(left).reshape(-1, terms)
        macs = left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
        return [Call(MATMUL, left, right, macs, macs // max(terms, 1), terms, by_output, rows, (-1, right.dim() - 2))]

    return read


def _one_if_expanded(matrices: Tensor) -> Tensor:
    """The matrix itself where a batch of matrices repeats it."""
    return matrices[0] if matrices.dim() == 3 and matrices.stride(0) == 0 else matrices


def _linear(given: Mapping[str, Any], result: Any) -> list[Call]:
    read, weight = given["input"], given["weight"]
    macs = result.numel() * weight.shape[-1]
    return [Call("linear", read, weight, macs, result.numel(), weight.shape[-1], weight, None, (-1, -1))]


def _attention(given: Mapping[str, Any], _: Any) -> list[Call]:
    """Queries times keys; the softmax's results times values."""
    query, key, value = given["query"], given["key"], given["value"]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    depth, out = query.shape[-1], value.shape[-1]
    first = Call("attention scores", query, key, scores * depth, scores, depth, key, None, (-1, -1))
    outputs = math.prod(query.shape[:-1]) * out
    second = Call(
        "attention sums", query, value, scores * out, outputs, key.shape[-2], value, None, (-1, -1), hidden=True
    )
    return [first, second]


def _recurrent(given: Mapping[str, Any], _: Any) -> list[Call]:
    """One layer and direction of an LSTM, inputs [L, N, C]: its inputs, and its own outputs of the step before."""
    read = given["input"].transpose(0, 1)
    rows, calls = read.shape[0] * read.shape[1], []
    for name, hidden in (("weight0", False), ("weight1", True)):
        weight, outputs = given[name], rows * given[name].shape[0]
        macs = rows * weight.numel()
        calls.append(Call("lstm", read, weight, macs, outputs, weight.shape[1], weight, None, (-1, -1), hidden=hidden))
    return calls


_READERS: dict[Any, Callable[[Mapping[str, Any], Any], list[Call]]] = {
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten.mm: _matrices("self", "mat2"),
    aten._int_mm: _matrices("self", "mat2"),
    aten.addmm: _matrices("mat1", "mat2"),
    aten.addmm_: _matrices("mat1", "mat2"),
    aten._addmm_activation: _matrices("mat1", "mat2"),
    aten.bmm: _matrices("self", "mat2"),
    aten.baddbmm: _matrices("batch1", "batch2"),
    aten.baddbmm_: _matrices("batch1", "batch2"),
    aten.addbmm: _matrices("batch1", "batch2"),
    aten.mv: _matrices("self", "vec"),
    aten.addmv: _matrices("mat", "vec"),
    aten.dot: _matrices("self", "tensor"),
    aten.linear: _linear,
    aten.mkldnn_rnn_layer: _recurrent,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}
UNREAD = ("lstm", "gru", "rnn_tanh", "rnn_relu", "_cudnn_rnn", "_thnn_fused_lstm_cell",
          "deform_conv2d", "_cdist_forward", "_trilinear", "_scaled_mm", "bilinear")  # fmt: skip
