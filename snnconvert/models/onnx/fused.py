"""Operators that onnxruntime fuses, as what they were before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from snnconvert.models.onnx.builder import Builder
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import MICROSOFT

_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"),
}  # fmt: skip


def _conv(builder: Builder) -> list[OnnxNode]:
    """f(W*x + b [+ z])."""
    result = builder.add("Conv", [builder.input(i) for i in range(3)], "result", **builder.kept(*_WINDOW))
    if builder.input(3) is not None:
        result = builder.add("Add", [result, builder.input(3)], "sum")
    _activated(builder, result, list(builder.node.attributes.get("activation_params") or []))
    return builder.finished()


def _gemm(builder: Builder) -> list[OnnxNode]:
    """f(alpha·a'·b' + beta·c)."""
    inputs = [builder.input(i) for i in range(3)]
    result = builder.add("Gemm", inputs, "result", **builder.kept("alpha", "beta", "transA", "transB"))
    given = [builder.node.attributes.get(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    _activated(builder, result, [item for item in given if item is not None])
    return builder.finished()


def _activated(builder: Builder, value: str, parameters: list[Any]) -> None:
    name = str(builder.node.attributes.get("activation", ""))
    if name == "":
        return
    if name not in _PARAMETERS or len(parameters) > len(_PARAMETERS[name]):
        raise builder.node.unsupported(f"its fused activation {name!r} is not supported: export without fusion")
    if name == "Clip":
        limits = [builder.constant(torch.tensor(float(item)), f"limit_{i}") for i, item in enumerate(parameters)]
        builder.add("Clip", [value, *limits], "activation")
    else:
        named = dict(zip(_PARAMETERS[name], map(float, parameters), strict=False))
        builder.add(name, [value], "activation", **named)


def _gelu(approximate: str) -> Callable[[Builder], list[OnnxNode]]:
    """gelu(x [+ b])."""

    def build(builder: Builder) -> list[OnnxNode]:
        value = builder.input(0)
        if builder.input(1) is not None:
            value = builder.add("Add", [value, builder.input(1)], "biased")
        builder.add("Gelu", [value], "result", approximate=approximate)
        return builder.finished()

    return build


FUSED: dict[tuple[str, str], Callable[[Builder], list[OnnxNode]]] = {
    (MICROSOFT, "FusedConv"): _conv,
    (MICROSOFT, "FusedGemm"): _gemm,
    (MICROSOFT, "BiasGelu"): _gelu("none"),
    (MICROSOFT, "FastGelu"): _gelu("tanh"),
}
