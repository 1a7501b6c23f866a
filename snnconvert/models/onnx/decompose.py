"""Operators that others express. Fused integer ones dequantize, compute, quantize: equal up to half a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onnx import TensorProto

from snnconvert.models.onnx.builder import Builder
from snnconvert.models.onnx.fused import FUSED
from snnconvert.models.onnx.linear_models import LINEAR_MODELS
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import MICROSOFT

_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "kernel_shape", "pads", "strides", "ceil_mode", "count_include_pad")


def _conv(builder: Builder) -> list[OnnxNode]:
    x, weight = builder.real(0, "input"), builder.real(3, "weights", axis=0)
    inputs: list[str | None] = [x, weight]
    if builder.input(8) is not None:
        scale = builder.add("Mul", [builder.input(1), builder.input(4)], "bias_scale")
        inputs.append(builder.add("DequantizeLinear", [builder.input(8), scale], "biases", axis=0))
    return builder.quantized(builder.add("Conv", inputs, "result", **builder.kept(*_WINDOW)), 6)


def _matmul(builder: Builder) -> list[OnnxNode]:
    product = builder.add("MatMul", [builder.real(0, "input", axis=0), builder.real(3, "weights", axis=1)], "result")
    return builder.quantized(product, 6)


def _gemm(builder: Builder) -> list[OnnxNode]:
    flag = builder.node.attributes.get("transB", 0)
    inputs: list[str | None] = [builder.real(0, "input"), builder.real(3, "weights", axis=0 if flag else 1)]
    if builder.input(6) is not None:
        scale = builder.add("Mul", [builder.input(1), builder.input(4)], "bias_scale")
        inputs.append(builder.add("DequantizeLinear", [builder.input(6), scale], "biases", axis=0))
    result = builder.add("Gemm", inputs, "result", **builder.kept("alpha", "transA", "transB"))
    return builder.quantized(result, 7) if builder.input(7) is not None else builder.finished()


def _binary(op_type: str) -> Callable[[Builder], list[OnnxNode]]:
    def build(builder: Builder) -> list[OnnxNode]:
        return builder.quantized(builder.add(op_type, [builder.real(0, "left"), builder.real(3, "right")], "result"), 6)

    return build


def _unary(op_type: str, *names: str) -> Callable[[Builder], list[OnnxNode]]:
    def build(builder: Builder) -> list[OnnxNode]:
        if builder.node.attributes.get("channels_last"):
            raise builder.node.unsupported("channels last are not supported: quantize the network in NCHW")
        result = builder.add(op_type, [builder.real(0, "input")], "result", **builder.kept(*names))
        return builder.quantized(result, 3)

    return build


def _concat(builder: Builder) -> list[OnnxNode]:
    count = len(builder.node.inputs)
    parts = [builder.real(position, f"part_{position}") for position in range(2, count, 3)]
    return builder.quantized(builder.add("Concat", parts, "result", **builder.kept("axis")), 0)


def _integer(op_type: str, axes: tuple[int, int], *names: str) -> Callable[[Builder], list[OnnxNode]]:
    """Integer products of (q − zero_point), which float32 holds exactly in networks of common width."""

    def build(builder: Builder) -> list[OnnxNode]:
        one = builder.add("Constant", [], "one", value_float=1.0)
        operands = [
            builder.add(
                "DequantizeLinear", [builder.input(position), one, builder.input(position + 2)], role, axis=axis
            )
            for position, (role, axis) in enumerate(zip(("input", "weights"), axes, strict=True))
        ]
        product = builder.add(op_type, operands, "result", **builder.kept(*names))
        builder.add("Cast", [product], "integers", to=TensorProto.INT32)
        return builder.finished()

    return build


def _softmax(builder: Builder) -> list[OnnxNode]:
    builder.add("Softmax", [builder.real(0, "input")], "result", **builder.kept("axis"))
    builder.nodes[-1] = replace(builder.nodes[-1], opset=int(builder.node.attributes.get("opset", 13)))
    return builder.quantized(builder.nodes[-1].outputs[0] or "", 3)


def _dynamic_product(builder: Builder) -> list[OnnxNode]:
    """round(a/s)·s·b + c with the step s of a's own range."""
    q, scale, zero = builder.add_many("DynamicQuantizeLinear", [builder.input(0)], ["integers", "step", "zero"])
    left = builder.add("DequantizeLinear", [q, scale, zero], "input")
    return _real_product(builder, left, 1, 2, 3, 4)


def _product_to_float(builder: Builder) -> list[OnnxNode]:
    """A·b + c of real values."""
    left = builder.add("DequantizeLinear", [builder.input(0), builder.input(2), builder.input(4)], "input")
    return _real_product(builder, left, 1, 3, 5, 6)


def _real_product(builder: Builder, left: str, right: int, scale: int, zero: int, bias: int) -> list[OnnxNode]:
    triple = [builder.input(position) for position in (right, scale, zero)]
    product = builder.add("MatMul", [left, builder.add("DequantizeLinear", triple, "weights", axis=-1)], "result")
    if builder.input(bias) is not None:
        builder.add("Add", [product, builder.input(bias)], "biased")
    return builder.finished()


_DECOMPOSITIONS: dict[tuple[str, str], Callable[[Builder], list[OnnxNode]]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    ("", "ConvInteger"): _integer("Conv", (1, 0), *_WINDOW),
    ("", "MatMulInteger"): _integer("MatMul", (-2, -1)),
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _binary("Add"),
    (MICROSOFT, "QLinearMul"): _binary("Mul"),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (MICROSOFT, "QLinearAveragePool"): _unary("AveragePool", *_POOL),
    (MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (MICROSOFT, "QLinearSoftmax"): _softmax,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_product,
    (MICROSOFT, "MatMulIntegerToFloat"): _product_to_float,
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu", "alpha"),
    **FUSED,
    **LINEAR_MODELS,
}


def is_decomposed(domain: str, name: str) -> bool:
    """Whether an operator is expressed by others."""
    return (domain, name) in _DECOMPOSITIONS


def decomposed(node: OnnxNode) -> list[OnnxNode]:
    """The nodes that express one node: itself, as a rule.

    Raises:
        ConversionError: if its attributes can't be expressed.
    """
    build = _DECOMPOSITIONS.get((node.domain, node.op_type))
    return [node] if build is None else build(Builder(node))
