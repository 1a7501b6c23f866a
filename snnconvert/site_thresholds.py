"""From what the calibration pass has seen to the threshold of each family of sites."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor, fx

from snnconvert.aligned_steps import aligned_steps
from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.channels import choose_channel_threshold
from snnconvert.calibration.thresholds.choice import Evidence, choose_threshold
from snnconvert.calibration.thresholds.fisher import gradient_weighted
from snnconvert.calibration.thresholds.mse import Bins
from snnconvert.calibration.thresholds.shifts import choose_shifted_threshold
from snnconvert.calibration.thresholds.smoothing import smoothed
from snnconvert.calibration.thresholds.spike_readers import spike_readers
from snnconvert.config import ConversionConfig
from snnconvert.convert.aligned_products import aligned_products
from snnconvert.convert.aligned_sums import aligned_sums
from snnconvert.convert.channels import SpikeChannels
from snnconvert.convert.function_tables import function_sites
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.convert.quantizers import Grid
from snnconvert.convert.shifting import shiftable_sites
from snnconvert.neurons.byte_tables import Potentials
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold

_PLACES = (0.125, 0.375, 0.625, 0.875)
_NAMED = 3


def rectified_nodes(graph: fx.Graph, plan: Plan) -> dict[str, str]:
    """The node each rectifying site rectifies, by the site's node name."""
    activations = {site.node for site in plan.sites if site.origin == "activation"}
    rectifiers = [node for node in graph.nodes if node.name in activations and kind_of(node) is OpKind.RECTIFIER]
    return {node.name: node.all_input_nodes[0].name for node in rectifiers}


def seen_potentials(
    graph: fx.Graph,
    plan: Plan,
    config: ConversionConfig,
    statistics: Statistics,
    thresholds: Mapping[int, Threshold],
) -> dict[str, Potentials]:
    """What calibration has seen in front of the sites on functions that are to tell 256 potentials apart.

    These are sites whose words kernels can look up by the byte: with one step, and neurons that start at rest.
    """
    if config.function_grid != "bytes" or config.potential_correction:
        return {}
    families = {site.node: site.family for site in plan.sites}
    found = {
        node: statistics.histograms[source]
        for node, source in function_sites(graph, plan).items()
        if source in statistics.histograms and not thresholds[families[node]].channel_steps
    }
    return {node: potentials_of(histogram) for node, histogram in found.items()}


def grid_notes(
    graph: fx.Graph, plan: Plan, config: ConversionConfig, potentials: Mapping[str, Potentials]
) -> tuple[str, ...]:
    """Which functions keep the fine grid although bytes were asked for."""
    if config.function_grid != "bytes":
        return ()
    layers = {site.node: site.layer for site in plan.sites}
    fine = [layers[node] for node in function_sites(graph, plan) if node not in potentials]
    if not fine:
        return ()
    return (f"the fine function grid, as bytes need one threshold a layer and no initial potentials: {_listed(fine)}",)


def _listed(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return ", ".join(layers[:_NAMED]) + more


def potentials_of(histogram: ValueHistogram) -> Potentials:
    """A few values of each bin, as bins are wider than a grid of potentials is fine; float noise can't show."""
    low, high, counts = histogram.bins()
    values = np.stack([low + (high - low) * share for share in _PLACES], 1)
    return Potentials(torch.from_numpy(values.flatten()), torch.from_numpy(counts.repeat(len(_PLACES))))


def site_thresholds(
    graph_module: fx.GraphModule,
    plan: Plan,
    config: ConversionConfig,
    statistics: Statistics,
    channels: SpikeChannels,
    weighted: Mapping[int, Bins],
) -> dict[int, Threshold]:
    """The threshold of each family of sites.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        config: the settings.
        statistics: what the calibration pass has seen.
        channels: which thresholds are per channel.
        weighted: for the threshold "fisher", :func:`weighted_bins`.
    """
    graph = graph_module.graph
    before = rectified_nodes(graph, plan) if config.threshold == "gaussian" else {}
    caps = _caps(plan)
    chosen = _given_thresholds(plan)
    for site in plan.sites:
        if site.node not in statistics.histograms or site.family in chosen:
            continue
        evidence = Evidence(statistics.histograms.get(before.get(site.node, "")), weighted.get(site.family))
        chosen[site.family] = choose_threshold(
            statistics.histograms[site.node],
            site.code,
            config.threshold,
            config.percentile,
            caps.get(site.family),
            evidence,
        )
    shiftable = shiftable_sites(graph, plan, channels).families if config.channel_shift else frozenset()
    own_caps = {site.node: inf if site.cap is None else site.cap for site in plan.sites}
    for family, nodes in channels.sites.items():
        if family not in chosen:
            continue
        histogram = ChannelHistogram.joined([statistics.channels[node] for node in nodes])
        cap = np.repeat([own_caps[node] for node in nodes], [len(statistics.channels[node].minimum) for node in nodes])
        rectified = [statistics.channels.get(before.get(node, "")) for node in nodes]
        known = [item for item in rectified if item is not None]
        histogram_before = ChannelHistogram.joined(known) if len(known) == len(nodes) else None
        shared = chosen[family]
        separate = choose_channel_threshold(
            shared, histogram, config.threshold, config.percentile, cap, histogram_before
        )
        if family in shiftable:
            separate = choose_shifted_threshold(shared, separate, histogram, config.threshold, config.percentile)
        if config.threshold_granularity == "smoothed":
            readers = spike_readers(graph_module, plan, channels, family)
            separate = smoothed(shared, separate, histogram, readers, cap)
        chosen[family] = separate
    chosen, kept = aligned_steps(graph, plan, chosen), frozenset(_given_thresholds(plan))
    if config.residuals == "spikes":
        chosen = aligned_sums(graph, plan, chosen, kept)
    return aligned_products(graph, plan, chosen, kept)


def weighted_bins(
    graph_module: fx.GraphModule, plan: Plan, calls: Sequence[Sequence[Tensor]], seed: int
) -> tuple[dict[int, Bins], tuple[str, ...]]:
    """Bins of each family's values weighted by squared gradients, and notes on the sites that none reach.

    Raises:
        ConversionError: if no output of the network is a floating tensor.
    """
    observed = {site.node: site.family for site in plan.sites if site.origin != "repeater"}
    found = gradient_weighted(graph_module, calls, observed, seed)
    missed = [site.layer for site in plan.sites if site.origin != "repeater" and site.family not in found]
    if not missed:
        return found, ()
    return found, (f"thresholds of minimal squared error where no gradient arrives: {_listed(missed)}",)


def _caps(plan: Plan) -> dict[int, float]:
    """The largest upper clip of each family's activations, infinite without one."""
    caps: dict[int, float] = {}
    for site in plan.sites:
        if site.origin == "activation":
            caps[site.family] = max(caps.get(site.family, 0.0), inf if site.cap is None else site.cap)
    return caps


def _given_thresholds(plan: Plan) -> dict[int, Threshold]:
    """Thresholds of families whose values the network itself rounds to one grid their code can count."""
    given: dict[int, Threshold] = {}
    grids: dict[int, set[tuple[float, int, int, int] | None]] = {}
    for site in plan.sites:
        if site.origin != "repeater":
            grids.setdefault(site.family, set()).add(site.grid)
        if site.grid is not None and isinstance(site.code, PackedCode):
            grid = Grid(*site.grid)
            if grid.levels <= site.code.levels and grid.offset < site.code.levels:
                given[site.family] = Threshold(grid.step, dataclasses.replace(site.code, offset=grid.offset))
    return {family: threshold for family, threshold in given.items() if len(grids[family]) == 1}
