"""One conversion in two halves: capture and plan, then calibration, neurons, weights, repair and report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from snnconvert.calibration.batches import input_batches
from snnconvert.calibration.collect import Collector, Statistics
from snnconvert.calibration.histogram import ValueHistogram
from snnconvert.calibration.repair import repair_and_measure
from snnconvert.calibration.rounder import WeightRounder
from snnconvert.calibration.thresholds import choose_threshold
from snnconvert.config import ConversionConfig, LayerOverride, matches
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import Sizes, capture_call
from snnconvert.convert.currents import folded_parameters
from snnconvert.convert.insert import insert_neurons
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.convert.planner import make_plan
from snnconvert.convert.quantizers import Grid
from snnconvert.convert.signature import Signature, argument_names
from snnconvert.convert.structure import flatten_inputs, unflatten_inputs
from snnconvert.engines.stepwise import is_exact
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.evaluation import compare_outputs
from snnconvert.inputs import Inputs
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.threshold import Threshold
from snnconvert.report.build import build_report
from snnconvert.spiking_model import SpikingModel

Batch = TypeVar("Batch")


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


Finisher = Callable[[PreparedConversion, Statistics], SpikingModel]


def prepare(
    model: nn.Module,
    example: Tensor | Inputs,
    config: ConversionConfig | None = None,
    *,
    sizes: Sizes | None = None,
    prefix: str = "",
) -> PreparedConversion:
    """The first half of :func:`convert`: captures and plans; needs no images beyond an example [N, ...].

    Args:
        model: the network.
        example: one or more input samples, or the arguments of one call.
        config: the settings.
        sizes: see :func:`~snnconvert.convert.capture.capture_call`; by default what the settings say.
        prefix: of a part of a larger model, what its layers' names begin with in the overrides.

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
    calib_loader: Iterable[Any] | Tensor,
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
    batches = (
        signature.flatten(batch.args, batch.kwargs) for batch in input_batches(calib_loader, transform, signature.names)
    )
    return calibrate_leaves(prepared, with_progress(batches, calib_loader, progress), finisher)


def convert_whole(
    model: nn.Module,
    calib_loader: Iterable[Any] | Tensor,
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
    batches = input_batches(calib_loader, transform, argument_names(model))
    first = next(batches, None)
    if first is None:
        raise InputError("the calibration loader is empty: give it at least one batch")
    prepared = prepare(model, first, config)
    leaves = (prepared.signature.flatten(batch.args, batch.kwargs) for batch in chain([first], batches))
    return calibrate_leaves(prepared, with_progress(leaves, calib_loader, progress), finisher)


def calibrate_leaves(
    prepared: PreparedConversion, batches: Iterable[tuple[Tensor, ...]], finisher: Finisher | None = None
) -> SpikingModel:
    """:func:`calibrate` on the tensors of each call."""
    collector = collector_of(prepared)
    for leaves in batches:
        collector.update(leaves)
    return (finisher or finish)(prepared, collector.statistics())


def collector_of(prepared: PreparedConversion) -> Collector:
    """What takes the calibration inputs of a prepared network."""
    observed = [site for site in prepared.plan.sites if site.origin != "repeater"]
    layers = {site.node: site.layer for site in observed}
    families = {site.node: site.family for site in observed}
    return Collector(prepared.graph, prepared.signature, layers, prepared.device, families)


def finish(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
    """The spiking network of a prepared one, once its calibration pass is over.

    Raises:
        ConversionError: if a sum of currents can't be proven exact.
        ConfigurationError: if the settings name an objective, which needs :func:`snnconvert.allocation.allocate`.
    """
    if prepared.config.objective is not None:
        raise ConfigurationError(f"{prepared.config.objective[0]} takes snnconvert.convert, which allocates widths")
    graph, conversion_plan, config = prepared.graph, prepared.plan, prepared.config
    thresholds = thresholds_of(conversion_plan, statistics.histograms, config)
    network, sums = insert_neurons(graph, conversion_plan, thresholds)
    codes = {item.node: thresholds[item.family].code for item in conversion_plan.synapses}
    sample = [tensor.to(prepared.device) for tensor in statistics.sample]
    images = prepared.signature.batch_of(sample)
    rounder, notes = _rounder(prepared, network, thresholds)
    measured = repair_and_measure(
        graph, network, codes, sample, images, correct=config.bias_correction, rounder=rounder
    )
    if rounder is not None:
        sums.widen()
    outputs = [prepared.signature.unflatten(output) for output in (measured.ann_output, measured.snn_output)]
    fidelity = compare_outputs([(images, *outputs, None)]).fidelity("a sample of the calibration images")
    report = build_report(
        conversion_plan, thresholds, measured.layers, _weight_counts(network), fidelity, config, statistics.count
    )
    report = dataclasses.replace(report, notes=(*report.notes, *prepared.notes, *notes))
    return SpikingModel(network, conversion_plan, config, report, prepared.signature, prepared.dtype).eval()


def _rounder(
    prepared: PreparedConversion, network: fx.GraphModule, thresholds: Mapping[int, Threshold]
) -> tuple[WeightRounder | None, tuple[str, ...]]:
    """What rounds the weights anew, and notes for the report if it can't."""
    if prepared.config.weight_rounding == "nearest":
        return None, ()
    if not is_exact(network):
        return None, ("weights are rounded to the nearest integers: gptq needs packed neurons throughout",)
    nodes = {node.name: node for node in prepared.graph.graph.nodes}
    steps = {item.node: thresholds[item.family].step for item in prepared.plan.synapses}
    return WeightRounder(lambda name: folded_parameters(prepared.graph, nodes[name], steps[name])[0]), ()


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
    return tqdm(batches, desc="calibrating", total=total, unit="batch", disable=None if progress else True)


def thresholds_of(
    conversion_plan: Plan, histograms: dict[str, ValueHistogram], config: ConversionConfig
) -> dict[int, Threshold]:
    """The threshold of each family of sites."""
    merged: dict[int, tuple[SpikeCode, ValueHistogram]] = {}
    caps: dict[int, float] = {}
    given = _given_thresholds(conversion_plan)
    for site in conversion_plan.sites:
        if site.node in histograms:
            merged.setdefault(site.family, (site.code, histograms[site.node]))
        if site.origin == "activation":
            caps[site.family] = max(caps.get(site.family, 0.0), inf if site.cap is None else site.cap)
    return {
        family: given.get(family)
        or choose_threshold(histogram, code, config.threshold, config.percentile, caps.get(family))
        for family, (code, histogram) in merged.items()
    }


def _given_thresholds(conversion_plan: Plan) -> dict[int, Threshold]:
    """Thresholds of families whose values the network itself rounds to one grid their code can count."""
    given: dict[int, Threshold] = {}
    grids: dict[int, set[tuple[float, int, int, int] | None]] = {}
    for site in conversion_plan.sites:
        if site.origin != "repeater":
            grids.setdefault(site.family, set()).add(site.grid)
        if site.grid is not None and isinstance(site.code, PackedCode):
            grid = Grid(*site.grid)
            if grid.levels <= site.code.levels and grid.offset < site.code.levels:
                given[site.family] = Threshold(grid.step, dataclasses.replace(site.code, offset=grid.offset))
    return {family: threshold for family, threshold in given.items() if len(grids[family]) == 1}


def _weight_counts(network: fx.GraphModule) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Product):
            counts[str(node.meta["source"])] = 0
        if isinstance(module, Synapse):
            counts[str(node.meta["source"])] = module.weight.numel()
    return counts
