"""Layer names: every plan, report and error speaks of a node by the name the model gives it."""

from __future__ import annotations

from collections import Counter

from torch import fx

from snnconvert.convert.ops import OpKind, kind_of, op_name

LAYER = "layer"


def assign_layer_names(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Sets ``node.meta["layer"]`` to a unique name on every computing node.

    A synapse is named after its weight ("layer1.0.conv1"), anything else after the module it runs in,
    with the operator's name if that module runs several ("layer1.0.add"); repeats get "#2", "#3", ….
    """
    nodes = [node for node in graph_module.graph.nodes if node.op == "call_function"]
    per_module = Counter(_module_path(node) for node in nodes if kind_of(node) is not OpKind.SHAPE)
    seen: Counter[str] = Counter()
    for node in nodes:
        path = _module_path(node)
        name = _weight_owner(node) or (path if path and per_module[path] == 1 else _joined(path, op_name(node)))
        seen[name] += 1
        node.meta[LAYER] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return graph_module


def layer_name(node: fx.Node) -> str:
    """The node's layer name, or its own name where none was assigned (inputs and constants)."""
    return str(node.meta.get(LAYER, node.name))


def _joined(path: str, operation: str) -> str:
    return f"{path}.{operation}" if path else operation


def _module_path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1] if paths and not paths[-1].startswith("_empty") else ""


def _weight_owner(node: fx.Node) -> str | None:
    if kind_of(node) is not OpKind.SYNAPSE or not isinstance(node.args[1], fx.Node) or node.args[1].op != "get_attr":
        return None
    parameter = str(node.args[1].meta.get("parameter", node.args[1].target))
    owner, _, _ = parameter.rpartition(".")
    return owner or None
