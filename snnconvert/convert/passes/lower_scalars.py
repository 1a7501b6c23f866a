"""f(x, [c]) = f(x, c): constants of one element become numbers, so that elementwise operators act on one value.

max(x, c) = clamp(x, c), min(x, c) = clamp(x, None, c), and the float of a truth value b is 1·b. Holds exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from snnconvert.convert.graph_tools import constant_of, replace_node, tidy

aten = torch.ops.aten
_MAXIMA = frozenset({aten.maximum.default, aten.max.other})
_MINIMA = frozenset({aten.minimum.default, aten.min.other})
_WITH_NUMBERS: dict[object, object] = {
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
    aten.pow.Tensor_Tensor: aten.pow.Tensor_Scalar,
    aten.clamp.Tensor: aten.clamp.default,
    aten.gt.Tensor: aten.gt.Scalar,
    aten.ge.Tensor: aten.ge.Scalar,
    aten.lt.Tensor: aten.lt.Scalar,
    aten.le.Tensor: aten.le.Scalar,
    aten.masked_fill.Tensor: aten.masked_fill.Scalar,
}
_SCALARS: dict[object, object] = {
    aten.add.Scalar: aten.add.Tensor,
    aten.sub.Scalar: aten.sub.Tensor,
    aten.mul.Scalar: aten.mul.Tensor,
    aten.div.Scalar: aten.div.Tensor,
}
_SWAPPED: dict[object, object] = {
    aten.add.Tensor: aten.add.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.sub.Tensor: aten.rsub.Scalar,
}
_WHERE: dict[tuple[bool, bool], object] = {
    (False, True): aten.where.ScalarOther,
    (True, False): aten.where.ScalarSelf,
}


def lower_scalars(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites elementwise operators on a tensor and constants of one element to operators on numbers."""
    for node in list(graph_module.graph.nodes):
        rewritten = _rewritten(graph_module, node) if node.op == "call_function" else None
        if rewritten is not None:
            with graph_module.graph.inserting_before(node):
                new = graph_module.graph.call_function(*rewritten)
            replace_node(node, new)
    return tidy(graph_module)


def _rewritten(graph_module: fx.GraphModule, node: fx.Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """The operator on numbers and its arguments; None where nothing changes."""
    if node.target is aten._to_copy.default and _is_truth(node.args[0]) and _is_float32(node):
        return aten.mul.Tensor, (node.args[0], 1.0), {}
    if node.target in _SCALARS and not node.kwargs and len(node.args) == 2:
        return _SCALARS[node.target], node.args, {}
    numbers = [_number(graph_module, argument, node) for argument in node.args]
    if all(number is None for number in numbers) or node.kwargs:
        return None
    args = tuple(arg if number is None else number for arg, number in zip(node.args, numbers, strict=True))
    first, second = args[0], args[1] if len(args) > 1 else None
    if node.target in _MAXIMA | _MINIMA:
        value, bound = (first, second) if numbers[0] is None else (second, first)
        if not isinstance(value, fx.Node):
            return None
        return aten.clamp.default, ((value, bound) if node.target in _MAXIMA else (value, None, bound)), {}
    if node.target is aten.where.self:
        target = _WHERE.get((numbers[1] is not None, numbers[2] is not None))
        return None if target is None or numbers[0] is not None else (target, args, {})
    if node.target not in _WITH_NUMBERS:
        return None
    if isinstance(first, fx.Node):
        return _WITH_NUMBERS[node.target], args, {}
    return (_SWAPPED[node.target], (second, first), {}) if node.target in _SWAPPED else None


def _number(graph_module: fx.GraphModule, argument: object, node: fx.Node) -> float | None:
    """The one element of a floating constant that neither widens the result's shape nor its type."""
    constant = constant_of(graph_module, argument)
    if constant is None or constant.numel() != 1 or not constant.is_floating_point():
        return None
    others = [other.meta.get("val") for other in node.all_input_nodes if other is not argument]
    ranks = [other.dim() for other in others if isinstance(other, torch.Tensor)]
    if not ranks or constant.dim() > max(ranks):
        return None
    kept = constant.dim() == 0 or constant.dtype == torch.float32
    return float(constant) if kept and bool(torch.isfinite(constant).all()) else None


def _is_float32(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _is_truth(argument: object) -> bool:
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool
