"""Small tools every pass shares: constants, replacement and tidying of fx graphs."""

from __future__ import annotations

from torch import Tensor, fx, nn


def tensor_at(module: nn.Module, target: str) -> Tensor:
    """The tensor at a dotted path of a module.

    Raises:
        AttributeError: if there is nothing.
        TypeError: if it is no tensor.
    """
    value: object = module
    for part in target.split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor):
        raise TypeError(f"{target} is {type(value).__name__}, not a tensor")
    return value


def constant_of(graph_module: fx.GraphModule, node: object) -> Tensor | None:
    """The tensor a ``get_attr`` node stands for, or None if the argument isn't such a node."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return tensor_at(graph_module, str(node.target))


def add_constant(graph_module: fx.GraphModule, before: fx.Node, name: str, value: Tensor) -> fx.Node:
    """Inserts a ``get_attr`` node of a new tensor in front of a node; the name is made unique."""
    unique, index = name.replace(".", "_"), 0
    while hasattr(graph_module, unique):
        index += 1
        unique = f"{name.replace('.', '_')}_{index}"
    graph_module.register_buffer(unique, value)
    with graph_module.graph.inserting_before(before):
        node = graph_module.graph.get_attr(unique)
    node.meta["val"] = value
    return node


def replace_node(old: fx.Node, new: fx.Node) -> None:
    """Lets every user of one node read another, which inherits its metadata."""
    for key, value in old.meta.items():
        new.meta.setdefault(key, value)
    old.replace_all_uses_with(new)
    old.graph.erase_node(old)


def tidy(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Removes dead nodes and the tensors nobody reads any more, checks the graph and recompiles it."""
    graph = graph_module.graph
    graph.eliminate_dead_code()
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    kept = {target: tensor_at(graph_module, target) for target in sorted(used)}
    slim = fx.GraphModule(kept, graph)
    slim.graph.lint()
    return slim
