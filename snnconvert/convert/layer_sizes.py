"""How large the layers of a graph are, for one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, fx

from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.convert.shapes import hinted_shape, macs_per_sample, traced_batch


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of one layer.

    Attributes:
        inputs: values it reads that carry spikes, for one sample; of a product, those of its first factor.
        outputs: values it gives, for one sample.
        fan_in: N, synapses of one output; of a transposed convolution, of the mean one.
        weights: how many it has; 0 for a product of two activations.
    """

    inputs: int
    outputs: int
    fan_in: int
    weights: int


def layer_sizes(graph_module: fx.GraphModule, plan: Plan) -> dict[str, LayerSizes]:
    """The sizes of every synapse of a plan, by node name.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
    """
    nodes, batch = {node.name: node for node in graph_module.graph.nodes}, traced_batch(graph_module.graph)
    return {item.node: _sizes(graph_module, nodes, item, batch) for item in plan.synapses}


def _sizes(graph_module: fx.GraphModule, nodes: dict[str, fx.Node], item: SynapsePlan, batch: int) -> LayerSizes:
    node = nodes[item.node]
    return LayerSizes(
        inputs=math.prod(hinted_shape(nodes[item.source])) // batch,
        outputs=math.prod(hinted_shape(node)) // batch,
        fan_in=fan_in(node),
        weights=0 if item.held is not None else _weight(graph_module, node).numel(),
    )


def fan_in(node: fx.Node) -> int:
    """N = MAC / outputs, synapses of one neuron behind a layer; rounded where its outputs differ.

    Args:
        node: the layer's node.
    """
    outputs = math.prod(hinted_shape(node)) // traced_batch(node.graph)
    return max(round(macs_per_sample(node) / max(outputs, 1)), 1)


def _weight(graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
    weight = constant_of(graph_module, node.args[1])
    assert weight is not None
    return weight
