"""From a trained network of learned widths to an ordinary spiking one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import torch
from torch import Tensor, fx

from snnconvert.calibration.repair import repair_and_measure
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.config import ConversionConfig, LayerOverride
from snnconvert.convert.graph_tools import add_constant, tidy
from snnconvert.convert.insert import insert_neurons
from snnconvert.convert.planner import make_plan
from snnconvert.finishing import assembled
from snnconvert.neurons.threshold import Threshold
from snnconvert.site_thresholds import seen_potentials
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.learned_bits.network import LearnedBitsNetwork
from snnconvert.training.learned_bits.site import SpikeWidth


def land(network: LearnedBitsNetwork, statistics: Statistics) -> SpikingModel:
    """The spiking network of learned widths, weights, biases and thresholds.

    Its integers are those of the trained network, unless common units make a scale of many bits much larger. Settings
    that would change weights or biases again (rounding, corrections, reconstruction, widths per channel) are off in its
    configuration; fidelity in its report is to the ANN from before the training.

    Args:
        network: the trained network; widths that haven't settled yet are rounded.
        statistics: of the calibration pass of ``network.prepared``.

    Raises:
        ConversionError: if a sum of currents can't be proven exact.
    """
    config = landed_config(network)
    plan = make_plan(network.prepared.graph, config)
    prepared = dataclasses.replace(network.prepared, config=config, plan=plan)
    thresholds = landed_thresholds(network)
    trained = trained_graph(network)
    scales = {node: network.weight_of(node).step().double() for node in network.weights}
    potentials = seen_potentials(prepared.graph.graph, plan, config, statistics, thresholds)
    inserted = insert_neurons(trained, plan, thresholds, prepared.channels, scales=scales, potentials=potentials)
    codes = {item.node: thresholds[item.family].code for item in plan.synapses}
    sample = [tensor.to(prepared.device) for tensor in statistics.sample]
    images = prepared.signature.batch_of(sample)
    measured = repair_and_measure(prepared.graph, inserted[0], codes, sample, images, correct=False)
    return assembled(prepared, inserted, thresholds, statistics, measured, notes=(_note(network),))


def landed_config(network: LearnedBitsNetwork) -> ConversionConfig:
    """The settings with the learned widths as overrides, and without what would change weights again."""
    overrides = {**network.prepared.config.overrides, **_overrides(network)}
    return dataclasses.replace(
        network.prepared.config,
        overrides=overrides,
        weight_rounding="nearest",
        weight_granularity="layer",
        reconstruction_steps=0,
        bias_correction=False,
        potential_correction=False,
    )


def _overrides(network: LearnedBitsNetwork) -> dict[str, LayerOverride]:
    told: dict[str, LayerOverride] = {}
    for group, width in zip(network.layout.spikes, network.spike_widths, strict=True):
        assert isinstance(width, SpikeWidth)
        if group.learned:
            bits, T = width.rounded
            told.update({item.layer: LayerOverride(bits=bits, T=T) for item in group.readers})
    for item in network.allocation():
        if item.learned and item.weight_bits is not None:
            told[item.layer] = dataclasses.replace(told.get(item.layer, LayerOverride()), weight_bits=item.weight_bits)
    return {re.escape(layer): override for layer, override in told.items()}


def landed_thresholds(network: LearnedBitsNetwork) -> dict[int, Threshold]:
    """The trained threshold of each family of sites, at the learned widths."""
    steps: dict[int, float] = {}
    for family in network.family_widths:
        steps[family] = float(network.family_step(family).detach())
    return {
        family: network.site_of(family).threshold_at(*width.rounded, steps[family])
        for family, width in network.family_widths.items()
    }


def trained_graph(network: LearnedBitsNetwork) -> fx.GraphModule:
    """The canonical graph with the quantized weights Ŵ and the trained biases as its constants; same node names."""
    graph_module = _copied(network.prepared.graph)
    nodes = {node.name: node for node in graph_module.graph.nodes}
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for name in network.weights:
            weight, bias = network.quantized_weight(name), network.weight_of(name).real_bias()
            _replace_parameters(graph_module, nodes[name], {"weight": weight, "bias": bias})
    network.train(was_training)
    return tidy(graph_module)


def _copied(graph_module: fx.GraphModule) -> fx.GraphModule:
    graph = fx.Graph()
    output = graph.graph_copy(graph_module.graph, {})
    graph.output(output)
    return fx.GraphModule(graph_module, graph)


def _replace_parameters(graph_module: fx.GraphModule, node: fx.Node, values: Mapping[str, Tensor]) -> None:
    constants = [
        add_constant(graph_module, node, f"trained_{node.name}_{kind}", value.detach().clone())
        for kind, value in values.items()
    ]
    node.args = (node.args[0], *constants, *node.args[3:])


def _note(network: LearnedBitsNetwork) -> str:
    means = network.budgets()
    return (
        f"widths of inner layers learned with the weights: on average {means.weight_bits:.2f} weight bits, "
        f"{means.spike_bits:.2f} spike bits and {means.T:.2f} time steps"
    )
