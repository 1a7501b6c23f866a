"""One operator of a file, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snnconvert.errors import ConversionError, InputError


@dataclass(frozen=True)
class OnnxNode:
    """One node, after functions and branches have been inlined.

    Attributes:
        file: The file's name, for messages.
        name: The node's own name, or that of its first output.
        op_type: The operator, such as Conv.
        domain: Its domain; empty for ONNX's own.
        opset: The version of the domain that applies.
        inputs: Names of values, unique in the network; None for an optional input left out.
        outputs: Names of values; None for an output nobody asked for.
        attributes: Numbers, texts, lists, tensors and graphs by name.
        scopes: The names of the PyTorch modules it comes from, outermost first, if the exporter wrote them.
    """

    file: str
    name: str
    op_type: str
    domain: str
    opset: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()

    def describe(self) -> str:
        """FILE: OP 'NAME' (opset N), the beginning of every message about a node."""
        domain = f"{self.domain}." if self.domain else ""
        return f"{self.file}: {domain}{self.op_type} '{self.name}' (opset {self.opset})"

    def unsupported(self, reason: str) -> ConversionError:
        """An error for a sound node that this package can't express."""
        return ConversionError(f"{self.describe()}: {reason}")

    def malformed(self, reason: str) -> InputError:
        """An error for a node that breaks ONNX's rules."""
        return InputError(f"{self.describe()}: {reason}")
