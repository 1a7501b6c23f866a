"""The weights that read the spikes of a family of sites, channel by channel."""

from __future__ import annotations

import torch
from torch import fx

from snnconvert.calibration.thresholds.smoothing import SpikeReader
from snnconvert.convert.channels import SpikeChannels
from snnconvert.convert.currents import folded_parameters, met_by_weights
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
        weight = weight.reshape(*weight.shape[:2], -1)
        index = torch.from_numpy(channels.maps[item.source].index)
        of_outputs = met_by_weights(index, weight, groups_of(nodes[item.node]))[..., 0].numpy()
        readers.append(SpikeReader(weight, of_outputs, item.weight_bits))
    return readers
