"""Element-wise work of a graph, for one sample: what neither a synapse nor a change of layout does."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import fx

from snnconvert.convert.ops import COPY, OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.convert.shapes import hinted_shape, traced_batch

aten = torch.ops.aten
_FREE = frozenset(
    {
        OpKind.SYNAPSE, OpKind.PRODUCT, OpKind.RELAY, OpKind.CONCAT, OpKind.LAYOUT, OpKind.SHAPE, OpKind.CONSTANT,
        OpKind.INPUT, OpKind.OUTPUT,
    }
)  # fmt: skip
_WINDOWED = frozenset(
    {aten.avg_pool2d.default, aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default}
)
# Elementary steps of one element: softmax subtracts a maximum it looked for, raises, sums and divides; a norm sums,
# subtracts, squares, sums, scales by a root, and has a gain and a bias.
_STEPS: dict[object, int] = {
    aten.softmax.int: 5, aten._softmax.default: 5, aten.log_softmax.int: 5, aten._log_softmax.default: 5,
    aten.layer_norm.default: 7, aten.native_layer_norm.default: 7, aten.group_norm.default: 7,
    aten.native_group_norm.default: 7, aten.instance_norm.default: 7, aten.rms_norm.default: 5,
}  # fmt: skip


@dataclass(frozen=True)
class Operations:
    """Element-wise operations for one sample.

    Attributes:
        ann: of the ANN, activation functions included, each once however many neurons take it over.
        real: of the spiking network, on real numbers.
        integer: of the spiking network, sums and pools of currents.
        by_node: of each analog node, by its name.
    """

    ann: int
    real: int
    integer: int
    by_node: dict[str, int]


def count_operations(graph: fx.Graph, plan: Plan) -> Operations:
    """Counts the element-wise operations of a canonical graph: one for each element and elementary step.

    A function or a sum of two takes one step, a scale and shift two, softmax five, a norm seven; a pool takes as many
    as its window has elements. Neurons take over the functions they fire on.

    Args:
        graph: the canonical graph.
        plan: its plan.
    """
    counted = {node.name: operations_per_sample(node) for node in graph.nodes}
    analog = {item.node: counted[item.node] for item in plan.analog}
    real = sum(analog.values())
    ann = sum(counted[node.name] for node in graph.nodes if COPY not in node.meta)
    return Operations(ann=ann, real=real, integer=_of_currents(plan, counted, analog), by_node=analog)


def _of_currents(plan: Plan, counted: dict[str, int], analog: Collection[str]) -> int:
    taken_over = {site.node for site in plan.sites if site.origin == "activation"}
    taken_over |= {site.affine for site in plan.sites if site.affine is not None}
    return sum(count for node, count in counted.items() if node not in analog and node not in taken_over)


def operations_per_sample(node: fx.Node) -> int:
    """Element-wise operations of one node; 0 where it computes nothing, or multiply-accumulates."""
    kind = kind_of(node)
    if kind in _FREE or not isinstance(node.meta.get("val"), torch.Tensor):
        return 0
    elements = math.prod(hinted_shape(node))
    if kind in (OpKind.AVERAGE_POOL, OpKind.MAX_POOL):
        elements = _pooled_elements(node, elements)
    return elements * _steps(node, kind) // traced_batch(node.graph)


def _steps(node: fx.Node, kind: OpKind) -> int:
    if kind is OpKind.AFFINE:
        return 2
    return _STEPS.get(node.target, 1)


def _pooled_elements(node: fx.Node, outputs: int) -> int:
    """Elements a pool looks at: its window at every output, or its whole input."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    window = node.args[1] if node.target in _WINDOWED else None
    if isinstance(window, (list, tuple)):
        sizes = [size for size in window if isinstance(size, int)]
        spatial = source.meta["val"].dim() - 2
        full = sizes * spatial if len(sizes) == 1 else sizes
        return outputs * math.prod(full)
    return math.prod(hinted_shape(source))
