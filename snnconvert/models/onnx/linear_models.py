"""Linear models of ai.onnx.ml as a matrix product and ONNX's own operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from onnx import TensorProto
from torch import Tensor

from snnconvert.models.onnx.builder import Builder
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import CLASSICAL

_TRANSFORMS = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def _regressor(builder: Builder) -> list[OnnxNode]:
    """f(W·x + b)."""
    weight, bias = _rows(builder, int(builder.node.attributes.get("targets", 1)))
    if weight.shape[0] == 1 and _transform(builder) != "NONE":
        raise builder.node.unsupported("what a transform of a single score means differs between programs")
    _transformed(builder, _product(builder, weight, bias))
    return builder.finished()


def _classifier(builder: Builder) -> list[OnnxNode]:
    """f(W·x + b), and the label of the largest score."""
    attributes = builder.node.attributes
    labels = attributes.get("classlabels_ints")
    names = labels or attributes.get("classlabels_strings") or []
    weight, bias = _rows(builder, len(attributes.get("intercepts") or names))
    shift = torch.zeros(len(names))
    if weight.shape[0] == 1 and len(names) == 2:
        # The scores of two classes that share a row are -s and s before a sigmoid, else 1 - s and s.
        shift[0] = 0.0 if _transform(builder) == "LOGISTIC" else 1.0
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias]) + shift
    scores = _product(builder, weight, bias)
    result = _transformed(builder, scores)
    if not labels:
        return builder.named(None, result)
    if shift.any():
        scores = builder.add("Sub", [scores, builder.constant(shift, "shift")], "shifted")
    best = builder.add("ArgMax", [scores], "best", axis=1, keepdims=0)
    return builder.named(
        builder.add("Gather", [builder.constant(torch.tensor(labels), "labels"), best], "label"), result
    )


def _rows(builder: Builder, count: int) -> tuple[Tensor, Tensor]:
    """W [count, D] and b [count].

    Raises:
        InputError: if the coefficients are no matrix of that many rows.
    """
    attributes = builder.node.attributes
    coefficients = torch.tensor(attributes.get("coefficients") or [], dtype=torch.float32)
    bias = torch.tensor(attributes.get("intercepts") or [0.0] * count, dtype=torch.float32)
    if count < 1 or coefficients.numel() == 0 or coefficients.numel() % count or bias.numel() != count:
        raise builder.node.malformed(
            f"its {coefficients.numel()} coefficients and {bias.numel()} intercepts are not those of {count} rows"
        )
    return coefficients.reshape(count, -1), bias


def _product(builder: Builder, weight: Tensor, bias: Tensor) -> str:
    x = builder.add("Cast", [builder.input(0)], "input", to=TensorProto.FLOAT)
    constants = [builder.constant(weight, "weight"), builder.constant(bias, "bias")]
    return builder.add("Gemm", [x, *constants], "product", transB=1)


def _transform(builder: Builder) -> str:
    return str(builder.node.attributes.get("post_transform", "NONE"))


def _transformed(builder: Builder, scores: str) -> str:
    name = _transform(builder)
    if name == "NONE" or (name == "SOFTMAX" and _is_shared(builder)):
        return builder.add("Identity", [scores], "result")
    if name not in _TRANSFORMS:
        raise builder.node.unsupported(f"the transform {name!r} of its scores is not supported")
    axis = {"axis": 1} if name == "SOFTMAX" else {}
    return builder.add(_TRANSFORMS[name], [scores], "result", **axis)


def _is_shared(builder: Builder) -> bool:
    """Whether two classes share one row of weights; onnxruntime takes no softmax of those."""
    return len(builder.node.attributes.get("intercepts") or [0, 0]) == 1


LINEAR_MODELS: dict[tuple[str, str], Callable[[Builder], list[OnnxNode]]] = {
    (CLASSICAL, "LinearRegressor"): _regressor,
    (CLASSICAL, "LinearClassifier"): _classifier,
}
