"""a·x + d per channel = a depthwise 1×1 convolution of x: normalized shortcuts, as in RepVGG and MobileOne.

Holds up to float rounding. A weight that is alone in its channel is a whole multiple of its own scale: quantizing it
loses next to nothing.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from snnconvert.convert.arguments import as_node
from snnconvert.convert.graph_tools import add_constant, constant_of, tidy
from snnconvert.convert.ops import CONVOLUTIONS, OpKind, channel_affine, kind_of
from snnconvert.convert.shapes import hinted_shape

_BY_RANK: dict[int, Any] = {rank: target for target, rank in CONVOLUTIONS.items()}
_SPIKING = frozenset({OpKind.RECTIFIER, OpKind.FUNCTION})


def affine_branches(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes synapses of normalizations that only enter sums and read what neurons fire anyway."""
    for node in list(graph_module.graph.nodes):
        if node.target is channel_affine and _joins_sums(node) and _reads_spikes(node):
            _to_synapse(graph_module, node)
    return tidy(graph_module)


def _joins_sums(node: fx.Node) -> bool:
    return bool(node.users) and all(kind_of(user) is OpKind.ADD for user in node.users)


def _reads_spikes(node: fx.Node) -> bool:
    """Whether neurons fire a normalization's source whatever becomes of it: an activation, or what synapses read."""
    source = as_node(node.args[0])
    if _spatial_rank(source) not in _BY_RANK:
        return False
    return kind_of(source) in _SPIKING or any(kind_of(user) is OpKind.SYNAPSE for user in source.users)


def _spatial_rank(source: fx.Node) -> int:
    return len(hinted_shape(source)) - 2


def _to_synapse(graph_module: fx.GraphModule, node: fx.Node) -> None:
    source, scale, shift = map(as_node, node.args)
    factors = constant_of(graph_module, scale)
    assert factors is not None
    channels, spatial = len(factors), _spatial_rank(source)
    weight = factors.view(-1, *[1] * (spatial + 1))
    kernel = add_constant(graph_module, node, f"{node.name}_weight", weight)
    kernel.meta["parameter"] = scale.meta["parameter"]
    node.target = _BY_RANK[spatial]
    node.args = (source, kernel, shift, [1] * spatial, [0] * spatial, [1] * spatial, channels)
