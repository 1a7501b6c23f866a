"""The graph as JSON: nodes with allow-listed operators, and modules of this package by kind and settings."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.artifact.dry_run import check_runs
from snnconvert.artifact.module_codec import module_from_json, module_to_json
from snnconvert.artifact.operators import operator_name, operator_of
from snnconvert.convert.graph_tools import tensor_at
from snnconvert.convert.signature import Signature
from snnconvert.errors import ArtifactError, first_line

_KEPT_META = ("layer", "source")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


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


def graph_from_json(data: Mapping[str, Any], tensors: Mapping[str, Tensor], signature: Signature) -> fx.GraphModule:
    """Rebuilds a spiking graph.

    Args:
        data: what :func:`graph_to_json` wrote.
        tensors: its tensors, by dotted name.
        signature: how it is called and what it returns, for a trial without memory.

    Raises:
        ArtifactError: on an operator that isn't allowed, a missing tensor or a malformed node.
    """
    try:
        root: dict[str, Tensor | nn.Module] = {}
        for name, settings in data["modules"].items():
            _checked_name(name)
            prefix = f"{name}."
            own = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            try:
                root[name] = module_from_json(settings, own)
            except ArtifactError as error:
                raise ArtifactError(f"{name}: {error}") from None
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for item in data["nodes"]:
            if item["op"] == "get_attr":
                root[item["target"]] = tensors[item["target"]]
            if item["name"] in nodes:
                raise ArtifactError(f"graph.json: two nodes are called {item['name']!r}")
            nodes[item["name"]] = _node_from_json(graph, item, nodes)
        network = fx.GraphModule(root, graph)
        network.graph.lint()
    except ArtifactError:
        raise
    except Exception as error:  # whatever a malformed file makes Python or torch raise
        raise ArtifactError(f"graph.json is damaged: {type(error).__name__}: {first_line(error)}") from None
    check_runs(network, signature)
    return network


def graph_tensors(network: fx.GraphModule) -> dict[str, Tensor]:
    """The graph's tensors by dotted name: persistent buffers of its modules and its own constants."""
    tensors = dict(network.state_dict())
    for node in network.graph.nodes:
        if node.op == "get_attr":
            tensors[str(node.target)] = tensor_at(network, str(node.target))
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
    target = operator_of(item["target"]) if item["op"] == "call_function" else _checked_name(item["target"])
    args = _value_from_json(item["args"], nodes)
    kwargs = {_checked_name(key): _value_from_json(value, nodes) for key, value in item.get("kwargs", {}).items()}
    node = graph.create_node(item["op"], target, tuple(args), kwargs, name=_checked_name(item["name"]))
    node.meta.update({key: str(value) for key, value in item.get("meta", {}).items() if key in _KEPT_META})
    return node


def _checked_name(name: object) -> str:
    """A name that is safe in the Python source torch.fx generates: letters, digits and underscores.

    Raises:
        ArtifactError: on anything else.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or _is_reserved(name):
        raise ArtifactError(f"graph.json: {name!r} is not a valid name")
    return name


def _is_reserved(part: str) -> bool:
    return keyword.iskeyword(part) or part in ("self", "forward") or part.startswith("__")


def _target_to_json(node: fx.Node) -> str:
    if isinstance(node.target, str):
        return node.target
    return operator_name(node.target, str(node.meta.get("layer", node.name)))


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
