"""Several nodes in place of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.values import Constant, HostArray

Names = Sequence["str | None"]
_OPSET = 21


@dataclass
class Builder:
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

    def add_many(self, op_type: str, inputs: Names, roles: Sequence[str]) -> list[str]:
        """Adds a node of several results; their names."""
        self.add(op_type, inputs, roles[0])
        outputs = tuple(f"{self.node.outputs[0]}/{role}" for role in roles)
        self.nodes[-1] = replace(self.nodes[-1], outputs=outputs)
        return list(outputs)

    def constant(self, tensor: Tensor, role: str) -> str:
        """Adds a tensor; its name."""
        return self.add("Constant", [], role, value=Constant(tensor, HostArray.from_tensor(tensor)))

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

    def named(self, *values: str | None) -> list[OnnxNode]:
        """The nodes; the given values are the outputs of the node they replace.

        The node itself stays for outputs that aren't given, and says why it can't be expressed if one is read.
        """
        names = dict(zip(values, self.node.outputs, strict=False))
        renamed = [
            replace(node, outputs=tuple(names.get(output, output) for output in node.outputs)) for node in self.nodes
        ]
        missing = [name if value is None else None for value, name in zip(values, self.node.outputs, strict=False)]
        return [*renamed, replace(self.node, outputs=tuple(missing))] if any(missing) else renamed

    def kept(self, *names: str) -> dict[str, Any]:
        """Those of the node's own attributes."""
        return {name: self.node.attributes[name] for name in names if name in self.node.attributes}
