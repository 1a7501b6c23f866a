"""Repair and measure: runs ANN and SNN on the same sample, layer by layer, and corrects channel means.

A channel's mean error d = E[ANN] − E[SNN] is added to its integer bias where |d| exceeds twice its
standard error over the images, in the order of the layers, so that later layers see corrected spikes.
This is the "light" bias step of SNN-Calibration (Li et al., ICML 2021), applied to packed neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.histogram import fixed_subset
from snnconvert.neurons.synapse import Synapse

_SIGNIFICANT = 2.0


@dataclass(frozen=True)
class LayerMeasurement:
    """What one synapse saw and did on the sample.

    Attributes:
        word_counts: int64 [2^(bT)], how often each input word occurred (offset code: the stored word).
        signal: Σ a² over a fixed subset of the ANN's outputs a.
        noise: Σ (a − s)² over the same outputs s of the SNN.
    """

    word_counts: Tensor
    signal: float
    noise: float


@dataclass(frozen=True)
class _Reference:
    image_means: Tensor  # [K, C]
    subset: Tensor  # [K, at most 16384]


class _ReferenceRun(fx.Interpreter):
    """Runs the ANN's graph and keeps a few numbers of each synapse's output."""

    def __init__(self, graph_module: fx.GraphModule, axes: Mapping[str, int], images: int) -> None:
        super().__init__(graph_module)
        self._axes = axes
        self._images = images
        self.references: dict[str, _Reference] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._axes:
            self.references[n.name] = _Reference(
                _image_means(value, self._axes[n.name], self._images), fixed_subset(value.flatten(1)).clone()
            )
        return value


class _SpikingRun(fx.Interpreter):
    """Runs the spiking graph, corrects biases on the way and compares with the references."""

    def __init__(self, network: fx.GraphModule, references: Mapping[str, _Reference], *, correct: bool) -> None:
        super().__init__(network)
        self._references = references
        self._correct = correct
        self.measurements: dict[str, LayerMeasurement] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        current = super().call_module(target, args, kwargs)
        module = self.fetch_attr(str(target))
        if not isinstance(module, Synapse):
            return current
        reference = self._references[self._source]
        if self._correct:
            current = _corrected(module, current, reference)
        units = module.channelwise(module.unit, current.dim()).expand_as(current[:1])
        real = fixed_subset(current.flatten(1)) * fixed_subset(units.flatten(1))
        self.measurements[self._source] = LayerMeasurement(
            word_counts=_word_counts(args[0], module.word_range),
            signal=float(reference.subset.double().square().sum()),
            noise=float((reference.subset - real).square().sum()),
        )
        return current

    def run_node(self, n: fx.Node) -> Any:
        self._source = str(n.meta.get("source", n.name))
        return super().run_node(n)


@dataclass(frozen=True)
class Measurement:
    """Measurements of each synapse by its node name in the ANN's graph, and both networks' outputs [K, ...]."""

    layers: Mapping[str, LayerMeasurement]
    ann_output: Tensor
    snn_output: Tensor


def repair_and_measure(ann: fx.GraphModule, network: fx.GraphModule, sample: Tensor, *, correct: bool) -> Measurement:
    """Corrects the spiking graph's biases in place (if told to) and measures every synapse.

    Args:
        ann: the canonical graph.
        network: the spiking graph made of it; synapses carry ``meta["source"]``.
        sample: input images [K, ...].
        correct: whether to correct biases.
    """
    axes: dict[str, int] = {}
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Synapse):
            axes[str(node.meta["source"])] = -1 if module.geometry is None else 1
    with torch.no_grad():
        reference_run = _ReferenceRun(ann, axes, len(sample))
        expected = reference_run.run(sample)
        run = _SpikingRun(network, reference_run.references, correct=correct)
        actual = run.run(sample)
    for module in network.modules():
        if isinstance(module, Synapse):
            module.finish()
    return Measurement(run.measurements, expected, actual)


def _image_means(values: Tensor, axis: int, images: int) -> Tensor:
    """Channel means of each image [K, C]; windows or tokens folded into the batch are averaged, too."""
    others = [dim for dim in range(1, values.dim()) if dim != axis % values.dim()]
    means = (values.mean(others) if others else values).double()
    folded = len(means) > images and len(means) % images == 0
    return means.view(images, -1, means.shape[-1]).mean(1) if folded else means


def _corrected(synapse: Synapse, current: Tensor, reference: _Reference) -> Tensor:
    axis = synapse.channel_axis(current.dim())
    images = reference.image_means.shape[0]
    difference = reference.image_means - _image_means(current, axis, images) * synapse.unit
    shift = difference.mean(0)
    error = difference.std(0) / images**0.5 if images > 1 else torch.full_like(shift, torch.inf)
    shift = torch.where(shift.abs() > _SIGNIFICANT * error, shift, torch.zeros_like(shift))
    added = synapse.shift_bias(shift / (synapse.unit * synapse.multiplier))
    return current + synapse.channelwise(added * synapse.multiplier, current.dim()).to(current.dtype)


def _word_counts(words: Tensor, word_range: tuple[int, int]) -> Tensor:
    low, high = word_range
    subset = fixed_subset(words.flatten(1)).to(torch.int64) - low
    return torch.bincount(subset.flatten(), minlength=high - low + 1).cpu()
