"""Attributes of a node as Python values; those of a function's nodes may refer to the caller's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from onnx import AttributeProto, NodeProto, TensorProto

from snnconvert.errors import InputError
from snnconvert.models.onnx.external import ExternalData
from snnconvert.models.onnx.limits import MOST_HOST_ELEMENTS
from snnconvert.models.onnx.tensors import to_tensor
from snnconvert.models.onnx.values import Constant, HostArray

_SCOPES = "pkg.torch.onnx.name_scopes"
_LONGEST_SCOPES = 4096


def resolve(node: NodeProto, given: Mapping[str, AttributeProto]) -> dict[str, AttributeProto]:
    """A node's attributes, with references replaced by the attributes its function was called with."""
    found = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in given:
            found[attribute.name] = given[attribute.ref_attr_name]
    return found


def parse(attributes: Mapping[str, AttributeProto], where: str, external: ExternalData) -> dict[str, Any]:
    """Numbers, texts, lists and tensors by name; graphs are left to the importer.

    Raises:
        InputError: if an attribute is of a kind that no supported operator reads.
    """
    return {
        name: _value(attribute, f"{where}.{name}", external)
        for name, attribute in attributes.items()
        if attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    }


def scopes_of(node: NodeProto) -> tuple[str, ...]:
    """The modules a node comes from, where PyTorch's exporter wrote them."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES and len(entry.value) <= _LONGEST_SCOPES:
            return tuple(re.findall(r"'([^']*)'", entry.value))
    return ()


def subgraphs(attributes: Iterable[AttributeProto]) -> list[Any]:
    """The graphs among attributes."""
    return [
        graph
        for attribute in attributes
        for graph in ([attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs)
    ]


def _value(attribute: AttributeProto, name: str, external: ExternalData) -> Any:
    kind = attribute.type
    if kind == AttributeProto.INT:
        return int(attribute.i)
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.STRING:
        return _text(attribute.s)
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.STRINGS:
        return [_text(item) for item in attribute.strings]
    if kind == AttributeProto.TENSOR:
        return _tensor(attribute.t, name, external)
    if kind in (AttributeProto.TYPE_PROTO, AttributeProto.TYPE_PROTOS):
        return None
    raise InputError(f"{external.path}: the attribute {name} is of a kind that is not supported: sparse or undefined")


def _tensor(proto: TensorProto, name: str, external: ExternalData) -> Constant:
    tensor = to_tensor(proto, name, external)
    return Constant(tensor, HostArray.from_tensor(tensor) if tensor.numel() <= MOST_HOST_ELEMENTS else None)


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
