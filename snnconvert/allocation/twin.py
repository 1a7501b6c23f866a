"""The ANN with some of its values quantized as the spiking network would: run once, and again from the middle on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from snnconvert.calibration.statistics.means import image_means, significant_mean
from snnconvert.convert.channels import SpikeChannels, Steps
from snnconvert.convert.currents import current_of_constants
from snnconvert.convert.ops import CONVOLUTIONS, TRANSPOSED
from snnconvert.convert.plan import Plan, Site, SynapsePlan
from snnconvert.convert.units import FloatArray
from snnconvert.neurons.threshold import Threshold

_WORST = 1e6


@dataclass(frozen=True)
class Quantization:
    """What is quantized; everything else is as in the ANN.

    Attributes:
        thresholds: of families of sites.
        weights: of synapses by node name, real numbers in the layout of the node's own weight.
    """

    thresholds: Mapping[int, Threshold] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def changed(self, other: Quantization) -> Quantization:
        """This one with what another one says on top."""
        return Quantization({**self.thresholds, **other.thresholds}, {**self.weights, **other.weights})


@dataclass(frozen=True)
class Branch:
    """A second run from one node on.

    Attributes:
        start: index of the node among the graph's.
        quantization: what holds there, all of it.
    """

    start: int
    quantization: Quantization


class Twin(fx.Interpreter):
    """Runs a canonical graph with quantized words and weights in place of some of its values.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        channels: where the channels of spikes are.
        means: mean outputs of each synapse's channels in the ANN, [images, C]; every synapse's output is shifted to
            them as bias correction does; empty: no such correction.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        channels: SpikeChannels,
        means: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self.nodes = list(graph_module.graph.nodes)
        self._means, self._channels = means or {}, channels
        self._synapses = {item.node: item for item in plan.synapses}
        sites = [site for site in plan.sites if site.origin != "repeater"]
        self._replaced = {site.node: site for site in sites if site.origin == "activation"}
        self._read = {site.node: site for site in sites if site.origin != "activation"}
        self._quantization = Quantization()

    def start_of(self, quantization: Quantization) -> int:
        """Index of the first node whose value a quantization changes."""
        for index, node in enumerate(self.nodes):
            site = self._replaced.get(node.name)
            if node.name in quantization.weights or (site is not None and site.family in quantization.thresholds):
                return index
            if any(site.family in quantization.thresholds for site in self._sites_read_by(node.name)):
                return index
        return len(self.nodes) - 1

    def run_from_start(self, inputs: Sequence[Tensor], base: Quantization) -> list[Tensor]:
        """The floating outputs of a whole run."""
        return next(self.branches(inputs, base, [Branch(len(self.nodes) - 1, base)]))[1]

    def branches(
        self, inputs: Sequence[Tensor], base: Quantization, branches: Sequence[Branch]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Runs once with ``base`` and, at the start of each branch, the rest of the graph with the branch's own.

        Yields (index of the branch, its floating outputs). Values are freed once the main run has used them,
        so that memory is that of one run and one branch.
        """
        waiting: dict[int, list[int]] = {}
        for index, branch in enumerate(branches):
            waiting.setdefault(branch.start, []).append(index)
        self.args_iter = iter(inputs)
        live: dict[fx.Node, Any] = {}
        for position, node in enumerate(self.nodes):
            for index in waiting.get(position, ()):
                self.env, self._quantization = dict(live), branches[index].quantization
                yield index, self._finished(position)
            self.env, self._quantization = live, base
            self._advance(node)

    def _finished(self, position: int) -> list[Tensor]:
        with torch.no_grad():
            for node in self.nodes[position:-1]:
                self._advance(node)
            return floating_outputs(self.run_node(self.nodes[-1]))

    def _advance(self, node: fx.Node) -> None:
        with torch.no_grad():
            self.env[node] = self.run_node(node)
        for used in self.user_to_last_uses.get(node, ()):
            del self.env[used]

    def run_node(self, n: fx.Node) -> Any:
        """One node's value, quantized where the quantization says so."""
        if n.name in self._synapses:
            return self._synapse(n, self._synapses[n.name])
        value = super().run_node(n)
        site = self._replaced.get(n.name)
        threshold = None if site is None else self._quantization.thresholds.get(site.family)
        return value if site is None or threshold is None else quantized(value, threshold, site, self._channels)

    def _sites_read_by(self, name: str) -> list[Site]:
        item = self._synapses.get(name)
        operands = () if item is None else (item.source, item.held)
        return [self._read[operand] for operand in operands if operand in self._read]

    def _synapse(self, node: fx.Node, item: SynapsePlan) -> Any:
        arguments, keywords = self.fetch_args_kwargs_from_env(node)
        given = list(arguments)
        for position, source in enumerate((item.source, item.held)):
            site = None if source is None else self._read.get(source)
            threshold = None if site is None else self._quantization.thresholds.get(site.family)
            if site is not None and threshold is not None:
                given[position] = quantized(given[position], threshold, site, self._channels)
        if node.name in self._quantization.weights:
            given = self._with_weights(node, item, given)
        value = self.call_function(node.target, tuple(given), keywords)
        return self._corrected(node, value) if node.name in self._means else value

    def _with_weights(self, node: fx.Node, item: SynapsePlan, given: list[Any]) -> list[Any]:
        """The arguments with quantized weights Ŵ; what its input is shifted by meets W, as in a synapse's bias."""
        weight, threshold = self._quantization.weights[node.name], self._quantization.thresholds.get(item.family)
        bias = given[2] if len(given) > 2 else None
        grid = None if threshold is None else Steps({item.family: threshold}, self._channels)
        shifts = None if grid is None else grid.shifts(item.source, item.family)
        if shifts is not None:
            lost = current_of_constants(node, given[1] - weight.to(given[1]), shifts).to(given[1].dtype)
            bias = lost if bias is None else bias + lost
        return [given[0], weight.to(given[1].dtype), bias, *given[3:]]

    def _corrected(self, node: fx.Node, value: Tensor) -> Tensor:
        means = self._means[node.name]
        shift = significant_mean(means - channel_means(node, value, len(means))).to(value.dtype)
        axis = _channel_axis(node, value)
        return value + shift.view([-1 if dim == axis else 1 for dim in range(value.dim())])


def quantized(values: Tensor, threshold: Threshold, site: Site, channels: SpikeChannels) -> Tensor:
    """Δ·Q((x − s)/Δ) + s: what the words of a site stand for."""
    steps, shifts = grid_along(channels, threshold, site, values)
    return words_of(values, threshold, site, steps, shifts).mul_(steps).add_(shifts).to(values.dtype)


def grid_along(channels: SpikeChannels, threshold: Threshold, site: Site, values: Tensor) -> tuple[Tensor, Tensor]:
    """Δ and s of a site's values, which broadcast along the axis of their channels; float32 or wider."""
    grid, dtype = Steps({site.family: threshold}, channels), torch.promote_types(values.dtype, torch.float32)
    steps, shifts = grid.at(site.node, site.family), grid.shifts(site.node, site.family)
    view = [-1 if dim == grid.axis(site.node, site.family) else 1 for dim in range(values.dim())]

    def along(numbers: FloatArray) -> Tensor:
        return torch.from_numpy(numbers).to(values.device, dtype).view(view)

    return along(steps), along(np.zeros_like(steps) if shifts is None else shifts)


def words_of(values: Tensor, threshold: Threshold, site: Site, steps: Tensor, shifts: Tensor) -> Tensor:
    """Q((x − s)/Δ): the words of a site, its upper clip included."""
    ceiling: float = math.ceil(threshold.code.maximum)
    if site.cap is not None and site.origin == "activation":
        ceiling = threshold.code.ceiling_at(site.cap / float(steps.max()))
    return threshold.code.quantize_((values - shifts) / steps, ceiling)


def channel_means(node: fx.Node, value: Tensor, images: int) -> Tensor:
    """The mean of each of a synapse's output channels over each image, [images, C]."""
    return image_means(value, _channel_axis(node, value), images)


def _channel_axis(node: fx.Node, value: Tensor) -> int:
    return 1 if node.target in CONVOLUTIONS or node.target in TRANSPOSED else value.dim() - 1


def floating_outputs(output: Any) -> list[Tensor]:
    """The floating tensors with dimensions among a graph's outputs."""
    listed = [output] if isinstance(output, Tensor) else list(output)
    return [item for item in listed if isinstance(item, Tensor) and item.is_floating_point() and item.dim() > 0]


def relative_error(reference: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """‖y − z‖²/‖z‖², averaged over the outputs, each with its own energy; at most 10⁶."""
    errors = []
    for expected, actual in zip(reference, outputs, strict=True):
        signal = float(expected.double().square().sum())
        if signal > 0:
            noise = float((actual.double() - expected.double()).square().sum())
            errors.append(min(noise / signal, _WORST) if math.isfinite(noise) else _WORST)
    return sum(errors) / len(errors) if errors else 0.0
