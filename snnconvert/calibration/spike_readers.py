"""The weights that read the spikes of a family of sites, channel by channel."""

from __future__ import annotations

import numpy as np
from torch import fx

from snnconvert.calibration.smoothing import SpikeReader
from snnconvert.convert.channels import SpikeChannels
from snnconvert.convert.currents import folded_parameters
from snnconvert.convert.ops import groups_of
from snnconvert.convert.plan import Plan


def spike_readers(graph_module: fx.GraphModule, plan: Plan, channels: SpikeChannels, family: int) -> list[SpikeReader]:
    """The synapses with weights that read a family's spikes.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        channels: where the spikes' channels are.
        family: the family; its threshold is per channel.
    """
    nodes = {node.name: node for node in graph_module.graph.nodes}
    readers = []
    for item in plan.synapses:
        if item.family != family or item.held is not None:
            continue
        weight, _ = folded_parameters(graph_module, nodes[item.node], 1.0)
        groups, inputs = groups_of(nodes[item.node]), weight.shape[1]
        index = channels.maps[item.source].index.reshape(groups, 1, inputs)
        of_outputs = np.broadcast_to(index, (groups, len(weight) // groups, inputs)).reshape(len(weight), inputs)
        readers.append(SpikeReader(weight.reshape(*weight.shape[:2], -1), of_outputs, item.weight_bits))
    return readers
