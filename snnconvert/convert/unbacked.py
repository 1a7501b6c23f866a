"""Sizes that torch could not tell at capture, although constants alone fix them, as in ``x[mask]``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from snnconvert.errors import ConversionError


def settle_sizes(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Traces the graph's values anew where some size has no number, now that its constants are folded.

    Raises:
        ConversionError: if a size still depends on data, naming the operator.
    """
    nodes = [node for node in graph_module.graph.nodes if node.op == "call_function"]
    if not any(_is_open(node.meta.get("val")) for node in nodes):
        return graph_module
    mode = next(value.fake_mode for node in nodes if isinstance(value := node.meta.get("val"), FakeTensor))
    for node in nodes:
        refused = ConversionError(f"{node.name}: the sizes of its result depend on data, which can't be captured")
        try:
            node.meta["val"] = _traced(node, mode)
        except Exception as error:  # torch's fake operators raise many types
            raise refused from error
        if _is_open(node.meta["val"]):
            raise refused
    return graph_module


def _traced(node: fx.Node, mode: FakeTensorMode) -> object:
    def value_of(source: fx.Node) -> Any:
        value = source.meta["val"]
        if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
            return mode.from_tensor(value, static_shapes=True)
        return value

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
    with torch.no_grad(), mode:
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _is_open(value: object) -> bool:
    """Whether a value is, or has, a size without a number."""
    if isinstance(value, torch.SymInt):
        return not value.node.has_hint()
    return isinstance(value, Tensor) and any(_is_open(size) for size in value.shape)
