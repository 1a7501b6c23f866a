"""stack(x, y, …) = cat(unsqueeze(x), unsqueeze(y), …): one way to join values. Holds exactly."""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten


def lower_stack(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites every stack to a concat along a new dimension."""
    found = graph_module.graph.find_nodes(op="call_function", target=aten.stack.default)
    for node in found:
        items, dim = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        assert isinstance(items, (list, tuple))
        builder = Builder(graph_module, node)
        rows = [builder.call(aten.unsqueeze.default, item, dim) for item in items]
        builder.replace(builder.call(aten.cat.default, rows, dim))
    return tidy(graph_module) if found else graph_module
