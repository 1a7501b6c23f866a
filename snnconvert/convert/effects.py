"""What a captured graph does beside computing its output: writes to the model's state, and random numbers.

A write that nothing returned depends on (counters, running means) is dropped; a model that reads its own state,
or draws random numbers, is no function of its input and is refused.
"""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.convert.graph_tools import tidy
from snnconvert.errors import ConversionError

aten = torch.ops.aten
_SWITCHES = ("train", "training", "dropout_p")


def without_effects(graph_module: fx.GraphModule, name: str) -> fx.GraphModule:
    """Drops writes to buffers and checks that the rest is a function of the inputs.

    Args:
        graph_module: a captured graph.
        name: the model's name, for messages.

    Raises:
        ConversionError: if the output depends on a buffer the model writes, or on random numbers.
    """
    graph = graph_module.graph
    written: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        state = node.args[0] if node.target is aten.copy_.default else None
        if isinstance(state, fx.Node) and state.op == "get_attr" and isinstance(node.args[1], fx.Node):
            written[str(state.target)] = node
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
    graph_module = tidy(graph_module)
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and str(node.target) in written:
            raise ConversionError(
                f"{name} keeps state: its output depends on {node.meta['parameter']}, which it writes at every call; "
                "pass the state in and out instead"
            )
        if _is_random(node):
            where = _module_path(node)
            raise ConversionError(
                f"{where or name} draws random numbers at inference ({node.target}): a spiking network can't; "
                "remove the noise or make it an input"
            )
    return graph_module


def _is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers; dropout and its like do in training, or with a probability above zero."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in node.target.tags:
        return False
    given = dict(node.kwargs)
    for position, argument in enumerate(node.target._schema.arguments):
        given.setdefault(argument.name, node.args[position] if position < len(node.args) else argument.default_value)
    switches = [given[name] for name in _SWITCHES if name in given]
    return not switches or any(switch not in (False, 0.0) for switch in switches)


def _module_path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack", {})
    return str(list(stack.values())[-1][0]) if stack else ""
