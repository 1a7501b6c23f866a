"""One conversion in two halves: capture and plan, then calibration, neurons, weights, repair and report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from snnconvert.calibration.batches import input_batches
from snnconvert.calibration.collect import Collector, Statistics
from snnconvert.calibration.distributed import common_example, failing_together, is_first, share
from snnconvert.calibration.no_data import SYNTHESIZED, NoData, synthesize
from snnconvert.calibration.reconstruction.reconstruct import learn_weights
from snnconvert.calibration.reconstruction.trainer import Schedule
from snnconvert.calibration.repair import finish_synapses, repair_and_measure
from snnconvert.calibration.rounder import WeightRounder
from snnconvert.calibration.threshold_mse import Bins
from snnconvert.config import ConversionConfig, LayerOverride, matches
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import Sizes, capture_call
from snnconvert.convert.channels import SpikeChannels, Steps, spike_channels
from snnconvert.convert.currents import folded_parameters
from snnconvert.convert.insert import insert_neurons
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.passes.split_shortcuts import split_shortcuts
from snnconvert.convert.plan import Plan
from snnconvert.convert.planner import make_plan, narrows_synapses
from snnconvert.convert.signature import Signature, argument_names
from snnconvert.convert.structure import flatten_inputs, unflatten_inputs
from snnconvert.engines.stepwise import is_exact
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.evaluation import compare_outputs
from snnconvert.inputs import Inputs
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.threshold import Threshold
from snnconvert.report.build import build_report
from snnconvert.site_thresholds import rectified_nodes, site_thresholds, weighted_bins
from snnconvert.spiking_model import SpikingModel

Batch = TypeVar("Batch")
_GRADIENT_BATCH = 8
_CHUNK = 32


@dataclass(frozen=True)
class PreparedConversion:
    """A network captured and planned, before calibration.

    Attributes:
        graph: the canonical graph.
        signature: how the network is called and what it returns.
        plan: what will be converted.
        config: the settings.
        device: where the network lives.
        dtype: its floating type.
        notes: what could not be done as wished, for the report.
        patterns: the overrides that match some of its layers.
    """

    graph: fx.GraphModule
    signature: Signature
    plan: Plan
    config: ConversionConfig
    device: torch.device
    dtype: torch.dtype
    notes: tuple[str, ...] = ()
    patterns: frozenset[str] = frozenset()

    @cached_property
    def channels(self) -> SpikeChannels:
        """Which sites have thresholds per channel: none unless the settings ask for it."""
        wanted = self.config.threshold_granularity == "channel"
        return spike_channels(self.graph, self.plan) if wanted else SpikeChannels()


Finisher = Callable[[PreparedConversion, Statistics], SpikingModel]


def prepare(
    model: nn.Module,
    example: Tensor | Inputs,
    config: ConversionConfig | None = None,
    *,
    sizes: Sizes | None = None,
    prefix: str = "",
    narrow: bool = False,
) -> PreparedConversion:
    """The first half of :func:`convert`: captures and plans; needs no images beyond an example [N, ...].

    Args:
        model: the network.
        example: one or more input samples, or the arguments of one call.
        config: the settings.
        sizes: see :func:`~snnconvert.convert.capture.capture_call`; by default what the settings say.
        prefix: of a part of a larger model, what its layers' names begin with in the overrides.
        narrow: whether synapses may come to read narrower windows than the settings say.

    Raises:
        InputError: if the example is neither tensor nor Inputs.
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    if not isinstance(example, (Tensor, Inputs)):
        raise InputError(f"the example is {type(example).__name__}: give a tensor [N, ...] or snnconvert.Inputs")
    config = config or ConversionConfig()
    device, dtype = placement(model)
    sizes = sizes or ("dynamic" if config.dynamic_sizes else "fixed")
    captured = capture_call(model, _moved(example, device), sizes=sizes)
    graph = canonicalize(captured.graph)
    notes = (f"converted for one image size: {captured.note}",) if captured.note else ()
    patterns: frozenset[str] = frozenset()
    if prefix:
        config, patterns = _of_part(config, graph, prefix)
    if narrow or narrows_synapses(config):
        graph = split_shortcuts(graph)
    conversion_plan = make_plan(graph, config)
    return PreparedConversion(graph, captured.signature, conversion_plan, config, device, dtype, notes, patterns)


def _of_part(config: ConversionConfig, graph: fx.GraphModule, prefix: str) -> tuple[ConversionConfig, frozenset[str]]:
    """The settings of a part, with an override for each of its own layers, and the patterns that match them."""
    layers = [layer_name(node) for node in graph.graph.nodes if kind_of(node) in (OpKind.SYNAPSE, OpKind.PRODUCT)]
    overrides = {re.escape(layer): config.override_for(prefix + layer) for layer in layers}
    told = {layer: override for layer, override in overrides.items() if override != LayerOverride()}
    used = {pattern for pattern in config.overrides for layer in layers if matches(pattern, prefix + layer)}
    return dataclasses.replace(config, overrides=told, parts=()), frozenset(used)


def calibrate(
    prepared: PreparedConversion,
    calib_loader: Iterable[Any] | Tensor | NoData,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
    finisher: Finisher | None = None,
) -> SpikingModel:
    """The second half of :func:`convert`: thresholds, neurons, weights, repair and report.

    Args:
        prepared: the network.
        calib_loader: as for :func:`snnconvert.convert`.
        transform: likewise.
        progress: likewise.
        finisher: what makes the spiking network of the statistics; by default :func:`finish`.

    Raises:
        InputError: as :func:`convert`.
        ConversionError: if activations reach NaN or Inf, or a sum of currents can't be proven exact.
        ConfigurationError: as :func:`finish`.
    """
    signature = prepared.signature
    if isinstance(calib_loader, NoData):
        return (finisher or finish)(prepared, _statistics_without(prepared, calib_loader, progress))
    batches = (
        signature.flatten(batch.args, batch.kwargs) for batch in input_batches(calib_loader, transform, signature.names)
    )
    return calibrate_leaves(prepared, with_progress(batches, calib_loader, progress), finisher)


def convert_whole(
    model: nn.Module,
    calib_loader: Iterable[Any] | Tensor | NoData,
    config: ConversionConfig | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
    finisher: Finisher | None = None,
) -> SpikingModel:
    """:func:`snnconvert.convert` of a model that is captured as a whole, whatever ``config.parts`` says.

    Raises:
        InputError: as :func:`snnconvert.convert`.
        ConversionError: as :func:`snnconvert.convert`.
        ConfigurationError: as :func:`snnconvert.convert`.
    """
    if isinstance(calib_loader, NoData):
        prepared = prepare(model, calib_loader.example, config)
        return calibrate(prepared, calib_loader, progress=progress, finisher=finisher)
    batches = input_batches(calib_loader, transform, argument_names(model))
    with failing_together():
        seen = list(islice(batches, 1))
    example = common_example(seen)
    if example is None:
        raise InputError("the calibration loader is empty: give it at least one batch")
    prepared = prepare(model, example, config)
    leaves = (prepared.signature.flatten(batch.args, batch.kwargs) for batch in chain(seen, batches))
    return calibrate_leaves(prepared, with_progress(leaves, calib_loader, progress), finisher)


def calibrate_leaves(
    prepared: PreparedConversion, batches: Iterable[tuple[Tensor, ...]], finisher: Finisher | None = None
) -> SpikingModel:
    """:func:`calibrate` on the tensors of each call."""
    collector = collector_of(prepared)
    with failing_together():
        for leaves in batches:
            collector.update(leaves)
    share(collector)
    return (finisher or finish)(prepared, collector.statistics())


def _statistics_without(prepared: PreparedConversion, data: NoData, progress: bool) -> Statistics:
    """The calibration pass on synthesized images."""

    def watched(steps: range) -> Iterable[int]:
        shown = progress and is_first()
        return tqdm(steps, desc="synthesizing images", unit="step", disable=None if shown else True)

    macs, seed = prepared.plan.total_macs, prepared.config.seed
    made = synthesize(prepared.graph, prepared.signature, data, macs, prepared.device, seed, watched)
    collector = collector_of(prepared)
    for images in torch.split(made.images, _CHUNK):
        collector.update((images,))
    return dataclasses.replace(collector.statistics(), count=0, sampled_from=SYNTHESIZED, notes=(made.note,))


def collector_of(prepared: PreparedConversion) -> Collector:
    """What takes the calibration inputs of a prepared network."""
    observed = [site for site in prepared.plan.sites if site.origin != "repeater"]
    layers = {site.node: site.layer for site in observed}
    groups = {site.node: site.family for site in observed}
    axes = prepared.channels.axes()
    if prepared.config.threshold == "gaussian":
        for node, source in rectified_nodes(prepared.graph.graph, prepared.plan).items():
            layers.setdefault(source, layers[node])
            groups.setdefault(source, -1 - groups[node])
            if node in axes:
                axes.setdefault(source, axes[node])
    training = prepared.config.reconstruction_steps > 0
    return Collector(prepared.graph, prepared.signature, layers, prepared.device, groups, axes, training=training)


def finish(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
    """The spiking network of a prepared one, once its calibration pass is over.

    Raises:
        ConversionError: if a sum of currents can't be proven exact.
        ConfigurationError: if the settings name an objective, which needs :func:`snnconvert.allocation.allocate`.
    """
    if prepared.config.objective is not None:
        raise ConfigurationError(f"{prepared.config.objective[0]} takes snnconvert.convert, which allocates widths")
    graph, conversion_plan, config = prepared.graph, prepared.plan, prepared.config
    thresholds, threshold_notes = thresholds_of(prepared, statistics)
    sample = [tensor.to(prepared.device) for tensor in statistics.sample]
    images = prepared.signature.batch_of(sample)
    network, sums = insert_neurons(graph, conversion_plan, thresholds, prepared.channels)
    codes = {item.node: thresholds[item.family].code for item in conversion_plan.synapses}
    rounder, notes = _rounder(prepared, network, thresholds)
    correct = config.bias_correction
    measured = repair_and_measure(graph, network, codes, sample, images, correct=correct, rounder=rounder)
    if config.reconstruction_steps and is_exact(network):
        _reconstruct(prepared, network, statistics)
        measured = repair_and_measure(graph, network, codes, sample, images, correct=correct)
    elif config.reconstruction_steps:
        notes = (*notes, "no reconstruction: it needs packed neurons throughout")
    finish_synapses(network)
    sums.widen()
    outputs = [prepared.signature.unflatten(output) for output in (measured.ann_output, measured.snn_output)]
    fidelity = compare_outputs([(images, *outputs, None)]).fidelity(statistics.sampled_from)
    report = build_report(
        conversion_plan, thresholds, measured.layers, _weight_counts(network), fidelity, config, statistics.count
    )
    notes = (*prepared.channels.notes(), *threshold_notes, *notes)
    report = dataclasses.replace(report, notes=(*report.notes, *prepared.notes, *statistics.notes, *notes))
    return SpikingModel(network, conversion_plan, config, report, prepared.signature, prepared.dtype).eval()


def _reconstruct(prepared: PreparedConversion, network: fx.GraphModule, statistics: Statistics) -> None:
    """Trains a network's weights in place on the sample that was kept for it."""
    sample = [tensor.to(prepared.device) for tensor in statistics.training_sample or statistics.sample]
    images, config = prepared.signature.batch_of(sample), prepared.config
    learn_weights(prepared.graph, network, sample, images, Schedule(config.reconstruction_steps), config.seed)


def _rounder(
    prepared: PreparedConversion, network: fx.GraphModule, thresholds: Mapping[int, Threshold]
) -> tuple[WeightRounder | None, tuple[str, ...]]:
    """What rounds the weights anew, and notes for the report if it can't."""
    if prepared.config.weight_rounding == "nearest":
        return None, ()
    if not is_exact(network):
        return None, ("weights are rounded to the nearest integers: gptq needs packed neurons throughout",)
    nodes = {node.name: node for node in prepared.graph.graph.nodes}
    steps = Steps(thresholds, prepared.channels)
    inputs = {item.node: steps.at(item.source, item.family) for item in prepared.plan.synapses}
    return WeightRounder(lambda name: folded_parameters(prepared.graph, nodes[name], inputs[name])[0]), ()


def _moved(example: Tensor | Inputs, device: torch.device) -> Inputs:
    given = example if isinstance(example, Inputs) else Inputs(example)
    leaves, structure = flatten_inputs(given, "the example")
    return unflatten_inputs(structure, [leaf.to(device) for leaf in leaves])


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device of the model's tensors, and the floating type of its parameters."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return (tensors[0].device if tensors else torch.device("cpu")), (floating[0] if floating else torch.float32)


def with_progress(batches: Iterator[Batch], loader: Iterable[Any] | Tensor, progress: bool) -> Iterable[Batch]:
    """The same batches behind a progress bar."""
    total = len(loader) if isinstance(loader, Sized) and not isinstance(loader, Tensor) else None
    shown = progress and is_first()
    return tqdm(batches, desc="calibrating", total=total, unit="batch", disable=None if shown else True)


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
    found = site_thresholds(graph.graph, conversion_plan, config, statistics, prepared.channels, weighted)
    return found, notes


def _weight_counts(network: fx.GraphModule) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Product):
            counts[str(node.meta["source"])] = 0
        if isinstance(module, Synapse):
            counts[str(node.meta["source"])] = module.weight.numel()
    return counts
