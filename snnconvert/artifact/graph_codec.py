"""The graph as JSON: nodes with allow-listed operators, and modules of this package by kind and settings."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.artifact.module_codec import module_from_json, module_to_json
from snnconvert.convert.graph_tools import torch_attribute
from snnconvert.convert.ops import channel_affine, rectified_linear
from snnconvert.errors import ArtifactError

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "snnconvert.rectified_linear": rectified_linear,
    "snnconvert.channel_affine": channel_affine,
    **{
        f"operator.{name}": getattr(operator, name)
        for name in (
            "getitem",
            "add",
            "sub",
            "mul",
            "floordiv",
            "truediv",
            "mod",
            "neg",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
        )
    },
}
_KEPT_META = ("layer", "source")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*", re.ASCII)
_NAMES = {function: name for name, function in _FUNCTIONS.items()}
_FORBIDDEN_OPERATORS = frozenset({"from_file", "set_", "resize_", "_foobar", "record_stream", "pin_memory"})


def graph_to_json(network: fx.GraphModule) -> dict[str, Any]:
    """Nodes and modules of a spiking graph, without its tensors.

    Raises:
        ArtifactError: if a node can't be written, naming it.
    """
    modules = {
        str(node.target): module_to_json(network.get_submodule(str(node.target)))
        for node in network.graph.nodes
        if node.op == "call_module"
    }
    return {"nodes": [_node_to_json(node) for node in network.graph.nodes], "modules": modules}


def graph_from_json(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> fx.GraphModule:
    """Rebuilds a spiking graph.

    Args:
        data: what :func:`graph_to_json` wrote.
        tensors: its tensors, by dotted name.

    Raises:
        ArtifactError: on an operator that isn't allowed, a missing tensor or a malformed node.
    """
    try:
        root: dict[str, Tensor | nn.Module] = {}
        for name, settings in data["modules"].items():
            _checked_name(name)
            prefix = f"{name}."
            own = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            root[name] = module_from_json(settings, own)
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for item in data["nodes"]:
            if item["op"] == "get_attr":
                root[item["target"]] = tensors[item["target"]]
            nodes[item["name"]] = _node_from_json(graph, item, nodes)
        network = fx.GraphModule(root, graph)
        network.graph.lint()
    except ArtifactError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise ArtifactError(f"graph.json is damaged: {type(error).__name__}: {error}") from None
    return network


def graph_tensors(network: fx.GraphModule) -> dict[str, Tensor]:
    """The graph's tensors by dotted name: persistent buffers of its modules and its own constants."""
    tensors = dict(network.state_dict())
    for node in network.graph.nodes:
        if node.op == "get_attr":
            tensors[str(node.target)] = torch_attribute(network, str(node.target))
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _node_to_json(node: fx.Node) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": node.name,
        "op": node.op,
        "target": _target_to_json(node),
        "args": _value_to_json(node.args, node),
    }
    if node.kwargs:
        item["kwargs"] = {key: _value_to_json(value, node) for key, value in node.kwargs.items()}
    kept = {key: node.meta[key] for key in _KEPT_META if key in node.meta}
    return {**item, **({"meta": kept} if kept else {})}


def _node_from_json(graph: fx.Graph, item: Mapping[str, Any], nodes: Mapping[str, fx.Node]) -> fx.Node:
    if item["op"] not in ("placeholder", "get_attr", "call_function", "call_module", "output"):
        raise ArtifactError(f"graph.json: node {item['name']} has unknown kind {item['op']!r}")
    target = _function(item["target"]) if item["op"] == "call_function" else _checked_name(item["target"])
    args = _value_from_json(item["args"], nodes)
    kwargs = {_checked_name(key): _value_from_json(value, nodes) for key, value in item.get("kwargs", {}).items()}
    node = graph.create_node(item["op"], target, tuple(args), kwargs, name=_checked_name(item["name"]))
    node.meta.update({key: str(value) for key, value in item.get("meta", {}).items() if key in _KEPT_META})
    return node


def _checked_name(name: object) -> str:
    """A name that is safe in the Python source torch.fx generates: dotted letters, digits and underscores.

    Raises:
        ArtifactError: on anything else.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or any(map(keyword.iskeyword, name.split("."))):
        raise ArtifactError(f"graph.json: {name!r} is not a valid name")
    return name


def _target_to_json(node: fx.Node) -> str:
    if isinstance(node.target, str):
        return node.target
    if isinstance(node.target, torch._ops.OpOverload):
        return f"{node.target.namespace}.{node.target.__name__}"
    name = _NAMES.get(node.target)
    if name is None:
        raise ArtifactError(f"{node.meta.get('layer', node.name)}: operator {node.target} can't be saved")
    return name


def _function(name: str) -> Callable[..., Any]:
    """The operator of a name: this package's own, plain arithmetic, or a functional ATen operator."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, _, rest = name.partition(".")
    packet_name, _, overload = rest.partition(".")
    packet = getattr(torch.ops.aten, packet_name, None) if namespace == "aten" and packet_name.isidentifier() else None
    found = getattr(packet, overload, None) if packet is not None and overload.isidentifier() else None
    if not isinstance(found, torch._ops.OpOverload) or found._schema.is_mutable or packet_name in _FORBIDDEN_OPERATORS:
        raise ArtifactError(f"graph.json: operator {name!r} is not allowed")
    return found


def _value_to_json(value: Any, node: fx.Node) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, tuple)):
        return [_value_to_json(item, node) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    for kind, convert in (
        ("dtype", torch.dtype),
        ("memory_format", torch.memory_format),
        ("layout", torch.layout),
    ):
        if isinstance(value, convert):
            return {kind: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": value.type}
    raise ArtifactError(f"{node.meta.get('layer', node.name)}: argument {value!r} can't be saved")


def _value_from_json(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_value_from_json(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "float":
        return float.fromhex(content)
    if kind == "device":
        return torch.device(content)
    found = getattr(torch, content, None) if str(content).isidentifier() else None
    if kind not in ("dtype", "memory_format", "layout") or not isinstance(
        found, (torch.dtype, torch.memory_format, torch.layout)
    ):
        raise ArtifactError(f"graph.json: unknown value {value!r}")
    return found
