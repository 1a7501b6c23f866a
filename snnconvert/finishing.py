"""The end of a conversion: thresholds, neurons, weights, repair and report from a calibration pass's statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

from torch import Tensor, fx

from snnconvert.calibration.noise import output_noise
from snnconvert.calibration.potentials import PotentialCorrector
from snnconvert.calibration.reconstruction.reconstruct import learn_weights
from snnconvert.calibration.reconstruction.trainer import Schedule
from snnconvert.calibration.repair import Measurement, finish_synapses, repair_and_measure
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.calibration.thresholds.choice import EQUAL_STEPS
from snnconvert.calibration.thresholds.mse import Bins
from snnconvert.calibration.weights.rounder import WeightRounder
from snnconvert.comparison import compare_graphs
from snnconvert.config import ConversionConfig
from snnconvert.convert.channels import Steps
from snnconvert.convert.currents import folded_parameters
from snnconvert.convert.insert import ExactSums, insert_neurons
from snnconvert.convert.layer_sizes import layer_sizes
from snnconvert.convert.operations import count_operations
from snnconvert.convert.real_steps import read_in_steps
from snnconvert.convert.shifting import shiftable_sites
from snnconvert.convert.site_readers import site_readers
from snnconvert.engines.stepwise import is_exact
from snnconvert.errors import ConfigurationError
from snnconvert.evaluation import compare_outputs
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.threshold import Threshold
from snnconvert.preparation import PreparedConversion
from snnconvert.report.build import Evidence, build_report
from snnconvert.report.schema import Fidelity
from snnconvert.site_thresholds import grid_notes, seen_potentials, site_thresholds, weighted_bins
from snnconvert.spiking_model import SpikingModel
from snnconvert.weight_widths import channel_widths, widths_note

_GRADIENT_BATCH = 8
_HELD_OUT = "calibration images that weights were not fitted to"
_FEW_SAMPLES, _MANY_MACS = 8, 1e8


def finish(prepared: PreparedConversion, statistics: Statistics, *, progress: bool = False) -> SpikingModel:
    """The spiking network of a prepared one, once its calibration pass is over.

    Args:
        prepared: the network.
        statistics: of its calibration pass.
        progress: show a progress bar while blocks are trained.

    Raises:
        ConversionError: if a sum of currents can't be proven exact.
        ConfigurationError: if the settings name an objective, which needs :func:`snnconvert.allocation.allocate`.
    """
    if prepared.config.objective is not None:
        raise ConfigurationError(f"{prepared.config.objective[0]} takes snnconvert.convert, which allocates widths")
    thresholds, threshold_notes = thresholds_of(prepared, statistics)
    widths = _widths(prepared, thresholds, statistics)
    potentials = seen_potentials(prepared.graph.graph, prepared.plan, prepared.config, statistics, thresholds)
    network, sums = insert_neurons(
        prepared.graph, prepared.plan, thresholds, prepared.channels, widths, potentials=potentials
    )
    measured, notes = _repaired(prepared, network, thresholds, statistics, progress=progress)
    grid = grid_notes(prepared.graph.graph, prepared.plan, prepared.config, potentials)
    notes = (*threshold_notes, *widths_note(widths), *grid, *notes)
    return assembled(prepared, (network, sums), thresholds, statistics, measured, widths=widths, notes=notes)


def assembled(
    prepared: PreparedConversion,
    inserted: tuple[fx.GraphModule, ExactSums],
    thresholds: Mapping[int, Threshold],
    statistics: Statistics,
    measured: Measurement,
    *,
    widths: Mapping[str, Tensor] | None = None,
    notes: tuple[str, ...] = (),
) -> SpikingModel:
    """The model and its report, once its synapses are what they shall be.

    Args:
        prepared: the network; fidelity is to its graph, the ANN's.
        inserted: what :func:`~snnconvert.convert.insert.insert_neurons` gave, repaired or trained.
        thresholds: threshold of each family of sites.
        statistics: of the calibration pass.
        measured: its synapses, on the calibration pass's sample.
        widths: weight bits of each output channel [O] of the synapses that don't have the plan's, by node name.
        notes: for the report.
    """
    graph, conversion_plan = prepared.graph, prepared.plan
    network, sums = inserted
    network = read_in_steps(network, prepared.signature)
    finish_synapses(network)
    sums.widen()
    evidence = Evidence(
        thresholds=thresholds,
        histograms=statistics.histograms,
        measurements=measured.layers,
        widths={} if widths is None else widths,
        sizes=layer_sizes(graph, conversion_plan),
        operations=count_operations(graph.graph, conversion_plan),
        readers=site_readers(graph.graph, conversion_plan),
    )
    fidelity = _fidelity(prepared, network, statistics, measured)
    report = build_report(conversion_plan, evidence, fidelity, prepared.config, statistics.count)
    notes = (*conversion_plan.notes, *prepared.channels.notes(), *notes)
    report = dataclasses.replace(report, notes=(*report.notes, *prepared.notes, *statistics.notes, *notes))
    return SpikingModel(network, conversion_plan, prepared.config, report, prepared.signature, prepared.dtype).eval()


def _widths(
    prepared: PreparedConversion, thresholds: Mapping[int, Threshold], statistics: Statistics
) -> dict[str, Tensor]:
    """Weight bits of each output channel, by node name; none where all channels have their layer's."""
    config = prepared.config
    if config.weight_granularity == "layer":
        return {}
    group = config.weight_group if config.weight_granularity == "group" else 1
    steps = Steps(thresholds, prepared.channels)
    sample = [tensor.to(prepared.device) for tensor in statistics.sample]
    return channel_widths(prepared.graph, prepared.plan, steps, sample, group)


def _fidelity(
    prepared: PreparedConversion, network: fx.GraphModule, statistics: Statistics, measured: Measurement
) -> Fidelity:
    """On images that nothing was fitted to, if there are any; else on the sample."""
    if statistics.held_out:
        return compare_graphs(prepared, network, [(statistics.held_out, None)]).fidelity(_HELD_OUT)
    outputs = [prepared.signature.unflatten(output) for output in (measured.ann_output, measured.snn_output)]
    images = prepared.signature.batch_of(statistics.sample)
    return compare_outputs([(images, *outputs, None)]).fidelity(statistics.sampled_from)


def _repaired(
    prepared: PreparedConversion,
    network: fx.GraphModule,
    thresholds: Mapping[int, Threshold],
    statistics: Statistics,
    *,
    progress: bool,
) -> tuple[Measurement, tuple[str, ...]]:
    """Rounds, corrects and trains a network in place, as the settings say; what was measured last, and notes."""
    config, weights = prepared.config, _Weights(prepared, thresholds)
    codes = {item.node: thresholds[item.family].code for item in prepared.plan.synapses}
    sample = [tensor.to(prepared.device) for tensor in statistics.sample]
    images = prepared.signature.batch_of(sample)
    measure = partial(repair_and_measure, prepared.graph, network, codes, sample, images)
    rounder, notes = _rounder(config, network, weights)
    potentials, potential_notes = _potentials(config, network, prepared.graph, images)
    measured = measure(correct=config.bias_correction, rounder=rounder, potentials=potentials)
    if config.reconstruction_steps and is_exact(network):
        notes = (*notes, _reconstruct(prepared, network, weights, statistics, progress=progress))
        measured = measure(correct=False)
    elif config.reconstruction_steps:
        notes = (*notes, "no reconstruction: it needs packed neurons throughout")
    if potentials is not None:
        potential_notes = (f"{potentials.corrected} neurons start at potentials of their own",)
    return measured, (*notes, *potential_notes)


def _reconstruct(
    prepared: PreparedConversion,
    network: fx.GraphModule,
    weights: _Weights,
    statistics: Statistics,
    *,
    progress: bool,
) -> str:
    """Trains a network's weights in place, unless that takes its outputs away from the ANN's; a note for the report."""
    sample = [tensor.to(prepared.device) for tensor in statistics.training_sample or statistics.sample]
    images, config = prepared.signature.batch_of(sample), prepared.config
    batched = [spec.batched for spec in prepared.signature.tensors]
    untrained = {name: value.clone() for name, value in network.state_dict().items()}
    gains = {module: module.gain for module in network.modules() if isinstance(module, SpikingNeuron)}
    before = output_noise(prepared.graph, network, sample, batched, images)
    schedule = Schedule(config.reconstruction_steps)
    if prepared.plan.total_macs > _MANY_MACS:
        schedule = dataclasses.replace(schedule, batch=_FEW_SAMPLES)
    learn_weights(prepared.graph, network, weights.in_counts, sample, images, schedule, config.seed, progress=progress)
    if output_noise(prepared.graph, network, sample, batched, images) <= before:
        trained = f"weights trained block by block on {images} images, {config.reconstruction_steps} steps each"
        return f"{trained}, and with them the potentials at which neurons fire, not what their spikes are worth"
    for neuron, gain in gains.items():
        neuron.gain = gain
    network.load_state_dict(untrained)
    return "weights as they were rounded: training took the outputs away from the ANN's"


class _Weights:
    """The ANN's weights as synapses take them."""

    def __init__(self, prepared: PreparedConversion, thresholds: Mapping[int, Threshold]) -> None:
        self._graph = prepared.graph
        self._nodes = {node.name: node for node in prepared.graph.graph.nodes}
        steps = Steps(thresholds, prepared.channels)
        self._steps = {item.node: steps.at(item.source, item.family) for item in prepared.plan.synapses}

    def folded(self, name: str) -> Tensor:
        """In units of the input's step, [O, ...]."""
        return folded_parameters(self._graph, self._nodes[name], self._steps[name])[0]

    def in_counts(self, name: str, synapse: Synapse) -> Tensor:
        """In counts of the synapse."""
        scale = (synapse.unit * synapse.multiplier).to(synapse.weight.device)
        return (self.folded(name).double() / synapse.channelwise(scale, synapse.weight.dim(), axis=0)).float()


def _rounder(
    config: ConversionConfig, network: fx.GraphModule, weights: _Weights
) -> tuple[WeightRounder | None, tuple[str, ...]]:
    """What rounds the weights anew, and notes for the report if it can't."""
    if config.weight_rounding == "nearest":
        return None, ()
    if not is_exact(network):
        return None, ("weights are rounded to the nearest integers: gptq needs packed neurons throughout",)
    return WeightRounder(weights.folded), ()


def _potentials(
    config: ConversionConfig, network: fx.GraphModule, graph: fx.GraphModule, images: int
) -> tuple[PotentialCorrector | None, tuple[str, ...]]:
    """What corrects what neurons start at, and notes for the report if it can't."""
    if not config.potential_correction:
        return None, ()
    if not is_exact(network):
        return None, ("no initial potentials: they need packed neurons throughout",)
    return PotentialCorrector(network, {node.name: node for node in graph.graph.nodes}, images), ()


def thresholds_of(prepared: PreparedConversion, statistics: Statistics) -> tuple[dict[int, Threshold], tuple[str, ...]]:
    """The threshold of each family of sites, and notes for the report."""
    graph, conversion_plan, config = prepared.graph, prepared.plan, prepared.config
    weighted: dict[int, Bins] = {}
    notes: tuple[str, ...] = ()
    if config.threshold == "fisher":
        batched = [spec.batched for spec in prepared.signature.tensors]
        leaves = [leaf.to(prepared.device) for leaf in statistics.sample]
        images = prepared.signature.batch_of(leaves)
        calls = [
            [leaf[start : start + _GRADIENT_BATCH] if cut else leaf for leaf, cut in zip(leaves, batched, strict=True)]
            for start in range(0, images, _GRADIENT_BATCH)
        ]
        weighted, notes = weighted_bins(graph, conversion_plan, calls, config.seed)
    found = site_thresholds(graph, conversion_plan, config, statistics, prepared.channels, weighted)
    if config.threshold in EQUAL_STEPS and any(site.code.words for site in conversion_plan.sites):
        notes = (
            *notes,
            f"thresholds of attention maps by minimal squared error: {config.threshold} is for equal steps",
        )
    if config.channel_shift:
        shiftable = shiftable_sites(graph.graph, conversion_plan, prepared.channels)
        notes = (*notes, *shiftable.notes(found))
    return found, notes
