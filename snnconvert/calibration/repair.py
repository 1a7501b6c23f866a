"""Repair and measure: runs ANN and SNN on the same sample, layer by layer, and corrects channel means.

A channel's mean error d = E[ANN] − E[SNN] is added to its integer bias where |d| exceeds twice its
standard error over the images, in the order of the layers, so that later layers see corrected spikes.
This is the "light" bias step of SNN-Calibration (Li et al., ICML 2021), applied to packed neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.potentials import PotentialCorrector
from snnconvert.calibration.reconstruction.blocks import source_of
from snnconvert.calibration.reference import Reference
from snnconvert.calibration.statistics.histogram import fixed_subset
from snnconvert.calibration.statistics.means import image_means, significant_mean
from snnconvert.calibration.weights.rounder import WeightRounder
from snnconvert.engines.stepwise import is_exact, simulate
from snnconvert.neurons.activity import Activity, activity_of_trains, activity_of_words
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.word import WordCode


@dataclass(frozen=True)
class LayerMeasurement:
    """What one synapse saw and did on the sample.

    Attributes:
        activity: of its input spikes, on a fixed subset of the neurons.
        signal: Σ a² over a fixed subset of the ANN's outputs a.
        noise: Σ (a − s)² over the same outputs s of the SNN.
    """

    activity: Activity
    signal: float
    noise: float


class _Workshop:
    """Compares the current of each synapse with the reference, and repairs the synapse on the way."""

    def __init__(self, reference: Reference, images: int, *, correct: bool, rounder: WeightRounder | None) -> None:
        self._reference, self._images = reference, images
        self._correct, self._rounder = correct, rounder
        self._expected: tuple[str, Tensor] | None = None
        self.measurements: dict[str, LayerMeasurement] = {}

    def round(self, source: str, synapse: Synapse, words: Tensor) -> None:
        """Rounds the weights of a synapse anew before it runs, if told to."""
        if self._rounder is not None:
            self._rounder.round(source, synapse, words, self.value_of(source))

    def take(self, source: str, synapse: Synapse, activity: Activity, current: Tensor) -> Tensor | None:
        """Measures one synapse.

        Args:
            source: its node in the ANN's graph.
            synapse: the synapse, whose bias is changed in place.
            activity: of its input.
            current: its integer current of a whole window.

        Returns:
            What the correction adds to the current of each channel, shaped to broadcast; None without one.
        """
        added = _correction(synapse, current, self.value_of(source), self._images) if self._correct else None
        if added is not None:
            current = current + added.to(current.dtype)
        units = synapse.channelwise(synapse.unit, current.dim()).expand_as(current[:1])
        self._measure(source, activity, fixed_subset(current.flatten(1)) * fixed_subset(units.flatten(1)))
        return added

    def take_product(self, source: str, product: Product, activity: Activity, current: Tensor) -> None:
        """Measures one product of two activations; it has no bias to correct."""
        unit = product.unit / product.multiplier
        self._measure(source, activity, fixed_subset((current * unit).flatten(1)))

    def _measure(self, source: str, activity: Activity, real: Tensor) -> None:
        expected = fixed_subset(self.value_of(source).flatten(1))
        self.measurements[source] = LayerMeasurement(
            activity=activity,
            signal=float(expected.double().square().sum()),
            noise=float((expected - real).square().sum()),
        )

    def value_of(self, source: str) -> Tensor:
        """What the ANN has at a node."""
        if self._expected is None or self._expected[0] != source:
            self._expected = source, self._reference.value_of(source)
        return self._expected[1]


class _PackedRun(fx.Interpreter):
    """Runs the spiking graph packed and shows every synapse to the workshop."""

    def __init__(
        self,
        network: fx.GraphModule,
        workshop: _Workshop,
        codes: Mapping[str, SpikeCode],
        potentials: PotentialCorrector | None,
    ) -> None:
        super().__init__(network)
        self._workshop, self._codes, self._potentials = workshop, codes, potentials

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(str(target))
        if isinstance(module, Synapse):
            self._workshop.round(self._source, module, args[0])
        current = super().call_module(target, args, kwargs)
        if not isinstance(module, (Synapse, Product)):
            return current
        code = self._codes[self._source]
        assert isinstance(code, WordCode)
        activity = activity_of_words(fixed_subset(args[0].flatten(1)), code)
        if isinstance(module, Product):
            self._workshop.take_product(self._source, module, activity, current)
            return current
        added = self._workshop.take(self._source, module, activity, current)
        return current if added is None else current + added.to(current.dtype)

    def run_node(self, n: fx.Node) -> Any:
        self._source = source_of(n)
        value = super().run_node(n)
        if self._potentials is not None and self._potentials.reads(n):
            self._potentials.correct(n, value, self._workshop.value_of(self._source))
        return value


class _StepwiseWatcher:
    """Shows every synapse of a network that runs in time to the workshop."""

    def __init__(self, workshop: _Workshop, codes: Mapping[str, SpikeCode]) -> None:
        self._workshop, self._codes = workshop, codes

    def integrated(self, source: str, synapse: Synapse, spikes: list[Tensor], current: Tensor) -> Tensor | None:
        """Measures one synapse; see :class:`~snnconvert.engines.synapse_cell.SynapseWatcher`."""
        return self._workshop.take(source, synapse, self._activity(source, spikes), current)

    def multiplied(self, source: str, product: Product, spikes: list[Tensor], current: Tensor) -> None:
        """Measures one product of two activations."""
        self._workshop.take_product(source, product, self._activity(source, spikes), current)

    def _activity(self, source: str, spikes: list[Tensor]) -> Activity:
        trains = torch.stack([fixed_subset(step.flatten(1)) for step in spikes])
        return activity_of_trains(trains, self._codes[source].spike_bits)


@dataclass(frozen=True)
class Measurement:
    """Measurements of each synapse by its node name in the ANN's graph, and both networks' outputs.

    An output is one tensor [K, ...], or several.
    """

    layers: Mapping[str, LayerMeasurement]
    ann_output: Tensor | Sequence[Tensor]
    snn_output: Tensor | Sequence[Tensor]


def repair_and_measure(
    ann: fx.GraphModule,
    network: fx.GraphModule,
    codes: Mapping[str, SpikeCode],
    sample: Sequence[Tensor],
    images: int,
    *,
    correct: bool,
    rounder: WeightRounder | None = None,
    potentials: PotentialCorrector | None = None,
) -> Measurement:
    """Repairs the spiking graph's synapses in place (if told to) and measures every one.

    The network runs packed where that is exact, else step by step, so that what rate codes lose to timing
    is measured, and its mean corrected.

    Args:
        ann: the canonical graph.
        network: the spiking graph made of it; synapses carry ``meta["source"]``.
        codes: code of the spikes each synapse reads, by its node in the ANN's graph.
        sample: the tensors of one call.
        images: how many samples they hold, K.
        correct: whether to correct biases.
        rounder: rounds the weights anew; it needs a network that runs packed.
        potentials: corrects what neurons start at; likewise.
    """
    with torch.no_grad():
        reference = Reference(ann, sample)
        workshop = _Workshop(reference, images, correct=correct, rounder=rounder)
        if is_exact(network):
            actual = _PackedRun(network, workshop, codes, potentials).run(*sample)
        else:
            actual = simulate(network, [tuple(sample)], watcher=_StepwiseWatcher(workshop, codes)).output
        expected = reference.result()
    return Measurement(workshop.measurements, expected, actual)


def finish_synapses(network: fx.GraphModule) -> None:
    """Ends the repair: biases stay as they are from here on."""
    for module in network.modules():
        if isinstance(module, Synapse):
            module.finish()


def _correction(synapse: Synapse, current: Tensor, expected: Tensor, images: int) -> Tensor:
    axis = synapse.channel_axis(current.dim())
    shift = significant_mean(image_means(expected, axis, images) - image_means(current, axis, images) * synapse.unit)
    added = synapse.shift_bias(shift / (synapse.unit * synapse.multiplier))
    return synapse.channelwise(added.double() * synapse.multiplier, current.dim())
