"""Fused integer operators as real ones: dequantize, compute, quantize. Holds up to half a step of the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import TensorProto

from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import MICROSOFT

Names = Sequence["str | None"]
_OPSET = 21


@dataclass
class _Builder:
    """Collects the nodes that replace one."""

    node: OnnxNode
    nodes: list[OnnxNode] = field(default_factory=list)

    def input(self, position: int) -> str | None:
        """An input's name, or None."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def add(self, op_type: str, inputs: Names, role: str, **attributes: Any) -> str:
        """Adds a node of ONNX's own domain; the name of its result."""
        output = f"{self.node.outputs[0]}/{role}"
        name = self.node.name if role == "result" else f"{self.node.name}/{role}"
        new = OnnxNode(self.node.file, name, op_type, "", _OPSET, tuple(inputs), (output,), attributes)
        self.nodes.append(replace(new, scopes=self.node.scopes))
        return output

    def real(self, position: int, role: str, axis: int = 1) -> str:
        """The real value of the quantized input at a position, its scale and zero point behind it."""
        triple = [self.input(position), self.input(position + 1), self.input(position + 2)]
        return self.add("DequantizeLinear", triple, role, axis=axis)

    def quantized(self, value: str, scale: int) -> list[OnnxNode]:
        """Ends with the value on the output's grid."""
        self.add("QuantizeLinear", [value, self.input(scale), self.input(scale + 1)], "grid")
        return self.finished()

    def finished(self) -> list[OnnxNode]:
        """The nodes; the last one has the outputs of the node they replace."""
        self.nodes[-1] = replace(self.nodes[-1], outputs=self.node.outputs)
        return self.nodes

    def kept(self, *names: str) -> dict[str, Any]:
        """Those of the node's own attributes."""
        return {name: self.node.attributes[name] for name in names if name in self.node.attributes}


_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "kernel_shape", "pads", "strides", "ceil_mode", "count_include_pad")


def _conv(builder: _Builder) -> list[OnnxNode]:
    x, weight = builder.real(0, "input"), builder.real(3, "weights", axis=0)
    inputs: list[str | None] = [x, weight]
    if builder.input(8) is not None:
        scale = builder.add("Mul", [builder.input(1), builder.input(4)], "bias_scale")
        inputs.append(builder.add("DequantizeLinear", [builder.input(8), scale], "biases", axis=0))
    return builder.quantized(builder.add("Conv", inputs, "result", **builder.kept(*_WINDOW)), 6)


def _matmul(builder: _Builder) -> list[OnnxNode]:
    product = builder.add("MatMul", [builder.real(0, "input", axis=0), builder.real(3, "weights", axis=1)], "result")
    return builder.quantized(product, 6)


def _gemm(builder: _Builder) -> list[OnnxNode]:
    flag = builder.node.attributes.get("transB", 0)
    inputs: list[str | None] = [builder.real(0, "input"), builder.real(3, "weights", axis=0 if flag else 1)]
    if builder.input(6) is not None:
        scale = builder.add("Mul", [builder.input(1), builder.input(4)], "bias_scale")
        inputs.append(builder.add("DequantizeLinear", [builder.input(6), scale], "biases", axis=0))
    result = builder.add("Gemm", inputs, "result", **builder.kept("alpha", "transA", "transB"))
    return builder.quantized(result, 7) if builder.input(7) is not None else builder.finished()


def _binary(op_type: str) -> Callable[[_Builder], list[OnnxNode]]:
    def build(builder: _Builder) -> list[OnnxNode]:
        return builder.quantized(builder.add(op_type, [builder.real(0, "left"), builder.real(3, "right")], "result"), 6)

    return build


def _unary(op_type: str, *names: str) -> Callable[[_Builder], list[OnnxNode]]:
    def build(builder: _Builder) -> list[OnnxNode]:
        if builder.node.attributes.get("channels_last"):
            raise builder.node.unsupported("channels last are not supported: quantize the network in NCHW")
        result = builder.add(op_type, [builder.real(0, "input")], "result", **builder.kept(*names))
        return builder.quantized(result, 3)

    return build


def _concat(builder: _Builder) -> list[OnnxNode]:
    count = len(builder.node.inputs)
    parts = [builder.real(position, f"part_{position}") for position in range(2, count, 3)]
    return builder.quantized(builder.add("Concat", parts, "result", **builder.kept("axis")), 0)


def _integer(op_type: str, axes: tuple[int, int], *names: str) -> Callable[[_Builder], list[OnnxNode]]:
    """Integer products of (q − zero_point), which float32 holds exactly in networks of common width."""

    def build(builder: _Builder) -> list[OnnxNode]:
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


_DECOMPOSITIONS: dict[tuple[str, str], Callable[[_Builder], list[OnnxNode]]] = {
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
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu", "alpha"),
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
    return [node] if build is None else build(_Builder(node))
