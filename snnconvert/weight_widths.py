"""From a plan's weight bits of each layer to those of its output channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from snnconvert.calibration.weights.channel_widths import best_widths, width_errors
from snnconvert.calibration.weights.input_variances import input_variances
from snnconvert.convert.channels import Steps
from snnconvert.convert.currents import folded_parameters, met_by_weights
from snnconvert.convert.ops import groups_of
from snnconvert.convert.plan import Plan
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS

_ROUNDING_VARIANCE = 1 / 12


def channel_widths(
    graph_module: fx.GraphModule, plan: Plan, steps: Steps, sample: Sequence[Tensor], group: int = 1
) -> dict[str, Tensor]:
    """Weight bits of each output channel, int64 [O], of the synapses between 1 and 8 bits, by node name.

    They have the layer's weight bits as their largest mean; see :mod:`snnconvert.calibration.weights.channel_widths`.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        steps: the step of spikes wherever they are read.
        sample: the tensors of one call of the ANN.
        group: how many consecutive output channels share a width.
    """
    mixed = {
        item.node: item
        for item in plan.synapses
        if item.held is None and FEWEST_WEIGHT_BITS < item.weight_bits < MOST_WEIGHT_BITS
    }
    variances = input_variances(graph_module, mixed, sample)
    widths: dict[str, Tensor] = {}
    for node in graph_module.graph.nodes:
        if node.name in mixed:
            item = mixed[node.name]
            step = steps.at(item.source, item.family)
            shifts = steps.shifts(item.source, item.family)
            weight, bias = folded_parameters(graph_module, node, step, shifts)
            of_words = variances[node.name] / torch.as_tensor(step).to(weight.device) ** 2 + _ROUNDING_VARIANCE
            errors = width_errors(weight, bias, met_by_weights(of_words, weight, groups_of(node)))
            widths[node.name] = best_widths(errors, item.weight_bits, group)
    return widths


def widths_note(widths: Mapping[str, Tensor]) -> tuple[str, ...]:
    """For the report: how many output channels have which weight bits."""
    if not widths:
        return ()
    counts = Counter(torch.cat(list(widths.values())).tolist())
    listed = ", ".join(f"{counts[bits]} of {bits}" for bits in sorted(counts))
    return (f"weight bits of {sum(counts.values())} output channels in {len(widths)} layers: {listed}",)
