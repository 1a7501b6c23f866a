"""ReLU, ReLU6, hardtanh(0, c), clamp(0[, c]) and threshold(x, 0, 0) become min(max(x, 0), c). Holds exactly.

RReLU at inference is a LeakyReLU of its mean slope.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from snnconvert.convert.arguments import with_defaults
from snnconvert.convert.graph_tools import replace_node, tidy
from snnconvert.convert.ops import rectified_linear

aten = torch.ops.aten
_NO_MATCH = -1.0


def standardize_rectifiers(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites every variant of the clipped rectifier to one ``rectified_linear(x, cap)`` node."""
    for node in list(graph_module.graph.nodes):
        if node.target is aten.rrelu.default:
            lower, upper = with_defaults(node, 1 / 8, 1 / 3)[:2]
            node.target, node.args = aten.leaky_relu.default, (node.args[0], (float(lower) + float(upper)) / 2)
        cap = _cap(node)
        if cap != _NO_MATCH:
            with graph_module.graph.inserting_before(node):
                rectifier = graph_module.graph.call_function(rectified_linear, (node.args[0], cap))
            replace_node(node, rectifier)
    return tidy(graph_module)


def _cap(node: fx.Node) -> float | None:
    """The upper clip (None without one), or -1 if the node is no rectifier."""
    target, args = node.target, tuple(node.args[1:])
    if node.op != "call_function" or node.kwargs:
        return _NO_MATCH
    if target is aten.relu.default or (target is aten.threshold.default and args == (0, 0)):
        return None
    if target is aten.relu6.default:
        return 6.0
    if target is aten.clamp_min.default and args == (0,):
        return None
    if target is aten.hardtanh.default:
        return _checked_cap(*with_defaults(node, -1.0, 1.0))
    if target is aten.clamp.default or target is aten.clip.default:
        return _checked_cap(*with_defaults(node, None, None))
    return _NO_MATCH


def _checked_cap(low: object, high: object) -> float | None:
    if not isinstance(low, (int, float)) or low != 0:
        return _NO_MATCH
    if high is None:
        return None
    if not isinstance(high, (int, float)) or high <= 0:
        return _NO_MATCH
    return None if math.isinf(high) else float(high)
