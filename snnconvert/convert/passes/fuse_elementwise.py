"""f(g(x)), x·f(x), …: a chain of elementwise operators on one value becomes one function of it. Holds exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from snnconvert.convert.elementwise import elementwise, is_floating, is_linear, is_step
from snnconvert.convert.graph_tools import replace_node, tidy
from snnconvert.convert.ops import OpKind, kind_of

aten = torch.ops.aten
_LONGEST = 32
_RECTIFIERS = frozenset(
    {aten.relu.default, aten.relu6.default, aten.clamp.default, aten.clamp_min.default, aten.hardtanh.default}
)


def fuse_elementwise(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Fuses the largest groups of elementwise operators that depend on one value, so that neurons can fire on it."""
    graph = graph_module.graph
    erased: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node not in erased and is_step(node) and is_floating(node) and (group := _group_of(node)) is not None:
            with graph.inserting_before(node):
                fused = graph.call_function(elementwise, (group.root, tuple(group.program)))
            replace_node(node, fused)
            for member in reversed(group.members[:-1]):
                graph.erase_node(member)
                erased.add(member)
    return tidy(graph_module)


@dataclass
class _Group:
    """Nodes that compute one function of ``root``, in order, and the program they amount to."""

    root: fx.Node
    members: list[fx.Node] = field(default_factory=list)
    program: list[tuple[Any, ...]] = field(default_factory=list)


def _group_of(node: fx.Node) -> _Group | None:
    """The largest group that ends in a node and has one root; None if there is none worth fusing."""
    members: set[fx.Node] = {node}
    best: _Group | None = None
    while True:
        sources = {source for member in members for source in member.all_input_nodes} - members
        if len(sources) == 1 and is_floating(*sources):
            (root,) = sources
            best = _compiled(root, members)
        grown = {source for source in sources if _can_join(source, members)}
        if not grown or len(members) > _LONGEST:
            break
        members |= {max(grown)}
    if best is None or len(best.members) < 2 or _is_better_apart(best.members):
        return None
    return best


def _is_better_apart(members: list[fx.Node]) -> bool:
    """Linear operators alone, or in front of a rectifier: sums of currents stay sums of integers."""
    *before, last = members
    return all(is_linear(member) for member in before) and (is_linear(last) or last.target in _RECTIFIERS)


def _can_join(node: fx.Node, members: set[fx.Node]) -> bool:
    return is_step(node) and kind_of(node) is not OpKind.CONSTANT and all(user in members for user in node.users)


def _compiled(root: fx.Node, members: set[fx.Node]) -> _Group:
    ordered = sorted(members)
    index = {root: 0, **{member: position for position, member in enumerate(ordered, 1)}}
    program = []
    for member in ordered:
        arguments = [("value", index[arg]) if isinstance(arg, fx.Node) else arg for arg in member.args]
        keywords = [("keyword", name, value) for name, value in member.kwargs.items()]
        program.append((str(member.target), *arguments, *keywords))
    return _Group(root, ordered, program)
