"""y = x: drops operators that change nothing at inference. Holds exactly."""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.convert.arguments import takes_all, with_defaults
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten
_ALWAYS = frozenset(
    {
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.alias.default,
        aten.lift_fresh_copy.default,
    }
)
_CHECKS = frozenset(
    {aten._assert_scalar.default, aten._assert_tensor_metadata.default, aten.sym_constrain_range.default}
)


def remove_identities(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Removes clones, evaluation-mode dropout, same-type casts, full slices, one-element concats, 0 + x + y."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in _CHECKS and not node.users:
            graph_module.graph.erase_node(node)
        elif (source := _identity_source(node)) is not None:
            node.replace_all_uses_with(source)
            graph_module.graph.erase_node(node)
    return tidy(graph_module)


def _identity_source(node: fx.Node) -> fx.Node | None:
    if node.op != "call_function" or not node.args:
        return None
    source = node.args[0]
    if node.target is aten.cat.default and isinstance(source, (list, tuple)) and len(source) == 1:
        source = source[0]
        return source if isinstance(source, fx.Node) else None
    if not isinstance(source, fx.Node):
        return None
    unchanged = (
        node.target in _ALWAYS
        or _is_inactive_dropout(node)
        or _is_full_slice(node)
        or ((node.target is aten._to_copy.default or _starts_sum(node)) and _same_type(node, source))
    )
    return source if unchanged else None


def _is_inactive_dropout(node: fx.Node) -> bool:
    return node.target is aten.dropout.default and node.args[2] is False


def _starts_sum(node: fx.Node) -> bool:
    """Whether a node adds the number 0, as sums do that begin with it; that of a quantizer is its zero point."""
    adds_zero = node.target is aten.add.Tensor and not node.kwargs and node.args[1] in (0, 0.0)
    return adds_zero and all(user.target is aten.add.Tensor and len(user.all_input_nodes) == 2 for user in node.users)


def _is_full_slice(node: fx.Node) -> bool:
    if node.target is not aten.slice.Tensor:
        return False
    _, start, end, step = with_defaults(node, 0, None, None, 1)
    return takes_all(start, end) and bool(step == 1)


def _same_type(node: fx.Node, source: fx.Node) -> bool:
    before, after = source.meta.get("val"), node.meta.get("val")
    return (
        isinstance(before, torch.Tensor)
        and isinstance(after, torch.Tensor)
        and before.dtype == after.dtype
        and before.device == after.device
    )
