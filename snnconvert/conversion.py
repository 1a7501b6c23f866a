"""One conversion in two halves: capture and plan, then the calibration pass and all that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnconvert.calibration.no_data import SYNTHESIZED, NoData, synthesize
from snnconvert.calibration.statistics.batches import input_batches
from snnconvert.calibration.statistics.collect import Collector, Statistics
from snnconvert.calibration.statistics.distributed import common_example, failing_together, is_first, share
from snnconvert.config import ConversionConfig
from snnconvert.convert.function_tables import function_sites
from snnconvert.convert.signature import argument_names
from snnconvert.errors import InputError
from snnconvert.finishing import finish
from snnconvert.preparation import PreparedConversion, prepare
from snnconvert.site_thresholds import rectified_nodes
from snnconvert.spiking_model import SpikingModel

Batch = TypeVar("Batch")
Finisher = Callable[[PreparedConversion, Statistics], SpikingModel]
_CHUNK = 32


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
    found = collector.statistics()
    return dataclasses.replace(found, count=0, sampled_from=SYNTHESIZED, notes=(made.note,), held_out=())


def collector_of(prepared: PreparedConversion) -> Collector:
    """What takes the calibration inputs of a prepared network."""
    observed = [site for site in prepared.plan.sites if site.origin != "repeater"]
    layers = {site.node: site.layer for site in observed}
    groups = {site.node: site.family for site in observed}
    axes = prepared.channels.axes()
    keys: dict[str, int | str] = dict(groups)
    graph = prepared.graph.graph
    if prepared.config.threshold == "gaussian":
        for node, source in rectified_nodes(graph, prepared.plan).items():
            layers.setdefault(source, layers[node])
            keys.setdefault(source, -1 - groups[node])
            if node in axes:
                axes.setdefault(source, axes[node])
    potentials = function_sites(graph, prepared.plan) if prepared.config.function_grid == "bytes" else {}
    unbounded = frozenset(potentials.values()) - layers.keys()
    for node, source in potentials.items():
        layers.setdefault(source, layers[node])
        keys.setdefault(source, source)
    training = prepared.config.reconstruction_steps > 0
    return Collector(
        prepared.graph, prepared.signature, layers, prepared.device, keys, axes, unbounded, training=training
    )


def with_progress(batches: Iterator[Batch], loader: Iterable[Any] | Tensor, progress: bool) -> Iterable[Batch]:
    """The same batches behind a progress bar."""
    total = len(loader) if isinstance(loader, Sized) and not isinstance(loader, Tensor) else None
    shown = progress and is_first()
    return tqdm(batches, desc="calibrating", total=total, unit="batch", disable=None if shown else True)
