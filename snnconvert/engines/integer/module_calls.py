"""Modules that stand for nodes of a spiking graph, in the graph it is lowered to."""

from __future__ import annotations

from torch import fx, nn


def call_for(
    node: fx.Node,
    suffix: str,
    module: nn.Module,
    sources: tuple[fx.Node, ...],
    graph: fx.Graph,
    root: dict[str, object],
) -> fx.Node:
    """Adds a module that stands for a node, or a part of it, under a name of its own, and calls it.

    Args:
        node: of the spiking graph.
        suffix: what its name is told apart by.
        module: what is called.
        sources: its operands, in the new graph.
        graph: the new graph.
        root: its modules and constants by name.
    """
    base = f"{node.target if node.op == 'call_module' else node.name}{suffix}"
    name, index = base, 1
    while name in root:
        index += 1
        name = f"{base}_{index}"
    root[name] = module
    made = graph.call_module(name, sources)
    made.meta["layer"] = str(node.meta.get("layer", node.target))
    return made
