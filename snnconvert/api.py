"""The one verb: an ANN and calibration data in, a spiking network out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from snnconvert.calibration.batches import input_batches
from snnconvert.calibration.collect import collect_statistics
from snnconvert.calibration.histogram import ValueHistogram
from snnconvert.calibration.repair import repair_and_measure
from snnconvert.calibration.thresholds import Threshold, choose_threshold
from snnconvert.config import ConversionConfig
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import capture
from snnconvert.convert.insert import insert_neurons
from snnconvert.convert.plan import Plan
from snnconvert.convert.planner import make_plan
from snnconvert.errors import InputError
from snnconvert.evaluation import compare_outputs
from snnconvert.models.onnx.classifier import is_onnx, load_single
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.synapse import Synapse
from snnconvert.report.build import build_report
from snnconvert.spiking_model import SpikingModel


@dataclass(frozen=True)
class PreparedConversion:
    """A network captured and planned, before calibration.

    Attributes:
        graph: the canonical graph.
        plan: what will be converted.
        config: the settings.
        device: where the network lives.
        dtype: its floating type.
    """

    graph: fx.GraphModule
    plan: Plan
    config: ConversionConfig
    device: torch.device
    dtype: torch.dtype


def prepare(
    model: nn.Module | str | Path, example: Tensor, config: ConversionConfig | None = None
) -> PreparedConversion:
    """The first half of :func:`convert`: captures and plans; needs no images beyond an example [N, ...].

    Raises:
        InputError: if the example is no tensor, or the model is a file that can't be read.
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    if not isinstance(example, Tensor):
        raise InputError(f"the example is {type(example).__name__}: give a tensor [N, ...]")
    config = config or ConversionConfig()
    network = _network(model)
    device, dtype = _placement(network)
    graph = canonicalize(capture(network, example.to(device)))
    return PreparedConversion(graph, make_plan(graph, config), config, device, dtype)


def calibrate(
    prepared: PreparedConversion,
    calib_loader: Iterable[Any] | Tensor,
    *,
    transform: Callable[[Any], Tensor] | None = None,
    progress: bool = True,
) -> SpikingModel:
    """The second half of :func:`convert`: thresholds, neurons, weights, repair and report.

    Raises:
        InputError: as :func:`convert`.
        ConversionError: if activations reach NaN or Inf, or a sum of currents can't be proven exact.
    """
    batches = input_batches(calib_loader, transform)
    shown = _with_progress(batches, calib_loader, progress)
    return _finish(prepared, shown)


def plan(model: nn.Module | str | Path, example: Tensor, config: ConversionConfig | None = None) -> Plan:
    """What :func:`convert` would do, without calibration: synapses, neurons, and what stays analog.

    Args:
        model: the network, or the path of an .onnx file.
        example: one or more input samples, [N, ...].
        config: the settings; defaults to ``ConversionConfig()``.

    Raises:
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    return prepare(model, example, config).plan


def convert(
    model: nn.Module | str | Path,
    calib_loader: Iterable[Any] | Tensor,
    config: ConversionConfig | None = None,
    *,
    transform: Callable[[Any], Tensor] | None = None,
    progress: bool = True,
) -> SpikingModel:
    """Converts a network into a spiking one.

    The model's graph is captured, thresholds are chosen from one streaming pass over the loader, neurons
    and integer weights are inserted, and channel means are corrected on a small sample. The model itself
    is left untouched. The result doesn't depend on the loader's order or batch size.

    Args:
        model: any module that maps one tensor [N, ...] to one tensor, or the path of an .onnx file that does.
        calib_loader: batches as tensors, (input, label) pairs or dicts, or one tensor [N, ...].
        config: the settings; defaults to ``ConversionConfig()``: 2-bit spikes, 4 steps, 8-bit weights.
        transform: turns an item of the loader into an input tensor.
        progress: show a progress bar on stderr if it is a terminal.

    Returns:
        The spiking network on the model's device, in the model's type, in evaluation mode.

    Raises:
        InputError: on an empty loader, NaN or Inf in its images, or a file that can't be read.
        ConversionError: if the network can't be captured, none of its layers would spike, activations
            reach NaN or Inf, or a sum of currents can't be proven exact.
        ConfigurationError: if an override matches no layer.
    """
    batches = input_batches(calib_loader, transform)
    first = next(batches, None)
    if first is None:
        raise InputError("the calibration loader is empty: give it at least one batch")
    prepared = prepare(model, first, config)
    return _finish(prepared, _with_progress(chain([first], batches), calib_loader, progress))


def _finish(prepared: PreparedConversion, batches: Iterable[Tensor]) -> SpikingModel:
    graph, conversion_plan, config = prepared.graph, prepared.plan, prepared.config
    observed = {site.node: site.layer for site in conversion_plan.sites if site.origin != "repeater"}
    histograms, sample, count = collect_statistics(graph, batches, observed, prepared.device)
    thresholds = _thresholds(conversion_plan, histograms, config)
    network = insert_neurons(graph, conversion_plan, thresholds)
    codes = {item.node: thresholds[item.family].code for item in conversion_plan.synapses}
    measured = repair_and_measure(graph, network, codes, sample.to(prepared.device), correct=config.bias_correction)
    fidelity = compare_outputs([(measured.ann_output, measured.snn_output, None)]).fidelity(
        "a sample of the calibration images"
    )
    report = build_report(
        conversion_plan, thresholds, measured.layers, _weight_counts(network), fidelity, config, count
    )
    return SpikingModel(network, conversion_plan, config, report, tuple(sample.shape[1:]), prepared.dtype).eval()


def _network(model: nn.Module | str | Path) -> nn.Module:
    """The module itself, or the one that a file holds."""
    if isinstance(model, nn.Module):
        return model
    if not is_onnx(model):
        raise InputError(f"{model} is no module and no .onnx file: give one of them")
    return load_single(model).module


def _placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device of the model's tensors, and the floating type of its parameters."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return (tensors[0].device if tensors else torch.device("cpu")), (floating[0] if floating else torch.float32)


def _with_progress(batches: Iterator[Tensor], loader: Iterable[Any] | Tensor, progress: bool) -> Iterable[Tensor]:
    total = len(loader) if isinstance(loader, Sized) and not isinstance(loader, Tensor) else None
    return tqdm(batches, desc="calibrating", total=total, unit="batch", disable=None if progress else True)


def _thresholds(
    conversion_plan: Plan, histograms: dict[str, ValueHistogram], config: ConversionConfig
) -> dict[int, Threshold]:
    merged: dict[int, tuple[SpikeCode, ValueHistogram]] = {}
    caps: dict[int, float] = {}
    for site in conversion_plan.sites:
        if site.node in histograms:
            _, histogram = merged.setdefault(site.family, (site.code, ValueHistogram()))
            histogram.merge(histograms[site.node])
        if site.origin == "activation":
            caps[site.family] = max(caps.get(site.family, 0.0), inf if site.cap is None else site.cap)
    return {
        family: choose_threshold(histogram, code, config.threshold, config.percentile, caps.get(family))
        for family, (code, histogram) in merged.items()
    }


def _weight_counts(network: fx.GraphModule) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Synapse):
            counts[str(node.meta["source"])] = module.weight.numel()
    return counts
