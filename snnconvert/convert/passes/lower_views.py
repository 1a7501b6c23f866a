"""view(x) = reshape(x): needs no contiguous memory, so that passes may move and drop nodes. Holds exactly."""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten
_VIEWS = frozenset({aten.view.default, aten._unsafe_view.default})


def lower_views(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites views, which fail on strided memory, to reshapes, which copy where they must."""
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and node.target in _VIEWS:
            node.target = aten.reshape.default
    return tidy(graph_module)
