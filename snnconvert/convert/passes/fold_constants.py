"""f(c) = c': computes once what depends on no input, such as standardized or normalized weights. Holds exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.graph_tools import add_constant, constant_of, replace_node, tidy
from snnconvert.convert.ops import OpKind, kind_of

_MOST_ELEMENTS = 1 << 26


def fold_constants(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Replaces deterministic operators on parameters alone, or on nothing, by their results.

    A result keeps the name of the largest parameter it comes from, so a convolution with a computed
    weight is still called by its own layer's name.
    """
    values: dict[fx.Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            values[node] = constant_of(graph_module, node)
        elif _is_foldable(node, values):
            values[node] = _computed(node, values)
    for node, value in values.items():
        read_by_others = any(user not in values for user in node.users)
        if node.op != "get_attr" and read_by_others and _is_worth_storing(value):
            assert isinstance(value, Tensor)
            _replace(graph_module, node, value)
        elif node.op != "get_attr" and read_by_others and type(value) in (bool, int, float):
            _replace_number(node, value)
    return tidy(graph_module)


def _computed(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _is_foldable(node: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
    if node.op != "call_function" or any(n not in values for n in node.all_input_nodes):
        return False
    overload = node.target
    if not isinstance(overload, torch._ops.OpOverload):
        return kind_of(node) is OpKind.LAYOUT
    return not overload._schema.is_mutable and torch.Tag.nondeterministic_seeded not in overload.tags


def _is_worth_storing(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() <= _MOST_ELEMENTS


def _replace(graph_module: fx.GraphModule, node: fx.Node, value: Tensor) -> None:
    parameter = _largest_parameter(graph_module, node)
    constant = add_constant(graph_module, node, f"{parameter}_computed", value.detach().clone())
    constant.meta["parameter"] = parameter
    replace_node(node, constant)


def _replace_number(node: fx.Node, value: float) -> None:
    """Writes a number, such as ``weight.norm().item()``, into the arguments of those who read it."""
    for user in list(node.users):
        user.args, user.kwargs = fx.node.map_arg(
            (user.args, user.kwargs), lambda argument: value if argument is node else argument
        )


def _largest_parameter(graph_module: fx.GraphModule, node: fx.Node) -> str:
    pending, sizes = [node], {}
    while pending:
        current = pending.pop()
        pending.extend(current.all_input_nodes)
        value = constant_of(graph_module, current)
        if value is not None:
            sizes[str(current.meta.get("parameter", current.target))] = value.numel()
    return max(sizes, key=lambda name: sizes[name]) if sizes else node.name
