"""The account of a spiking network: budgets, operations and memory by layer and in total."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from snnconvert.convert.layer_sizes import LayerSizes
from snnconvert.energy.workload import REAL_BITS, LayerWork, Workload
from snnconvert.report.effort import SpikeStatistics, s_ace

MEMBRANE_BITS = 32


@dataclass(frozen=True)
class LayerAccount:
    """One layer of synapses; everything is per image, rates and sparsities are shares.

    Attributes:
        name: the layer's.
        op: its operator.
        macs: multiply-accumulates of one pass, n in S-ACE.
        T: time steps of the window it reads.
        spike_bits: b_s, of one spike.
        weight_bits: b_w; the mean of its output channels where they have widths of their own; of a product of two
            activations the bits of the second one's words; 32 for floating-point weights.
        bit_budget: BB = T·b_w·b_s.
        s_ace: macs·BB, in pairs of bits.
        ns_ace: firing_rate·s_ace.
        firing_rate: share of spikes that are not zero, over neurons and steps.
        spikes_per_neuron: mean number of these in a window.
        word_sparsity: share of neurons that stay silent for the window.
        bit_sparsity: share of zeros among the T·b_s bits.
        reads_input: whether it reads the network's input.
        inputs: values it reads.
        outputs: values it gives.
        fan_in: synapses of one output, macs over outputs; rounded where outputs of a transposed convolution differ.
        weights: how many it has.
        levels: how many values a window can stand for.
        synops: synaptic operations macs·T·firing_rate: a spike that is not zero meets a weight.
        accumulates: additions macs·T·b_s·(1 − bit_sparsity) when spikes are sent bit by bit, one for each one.
        word_macs: multiply-accumulates macs·(1 − word_sparsity) when words are sent as integers.
        weight_bytes: of its weights, at b_w bits.
        state_bytes: of its outputs' membranes, at 32 bits.
    """

    name: str
    op: str
    macs: int
    T: int
    spike_bits: int
    weight_bits: int | float
    bit_budget: int | float
    s_ace: int
    ns_ace: float
    firing_rate: float
    spikes_per_neuron: float
    word_sparsity: float
    bit_sparsity: float
    reads_input: bool
    inputs: int
    outputs: int
    fan_in: int
    weights: int
    levels: int
    synops: float
    accumulates: float
    word_macs: float
    weight_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class AnalogReport:
    """One node that stays analog, with the reason.

    Attributes:
        name: its layer's.
        op: its operator.
        reason: why it stays.
        macs: its multiply-accumulates per image, on real numbers.
        operations: its element-wise operations per image, on real numbers.
        runs: how often each of them is done for an image: once a window, or at every step.
    """

    name: str
    op: str
    reason: str
    macs: int
    operations: int = 0
    runs: int = 1


@dataclass(frozen=True)
class Totals:
    """Sums and means over the spiking layers, per image.

    Attributes:
        bit_budget: mean BB = T·b_w·b_s, weighted by multiply-accumulates: s_ace over the layers' macs.
        bit_budget_by_weights: the same weighted by numbers of weights.
        bit_budget_by_neurons: weighted by numbers of values that layers read.
        bit_budget_of_means: b̄_w·b̄_s·T̄ with b_w averaged over weights, b_s and T over values that layers read (Yao et
            al., arXiv 2506.23717).
        largest_bit_budget: of any layer.
        s_ace: Σ macs·BB.
        ns_ace: Σ firing rate·macs·BB.
        macs: multiply-accumulates of the whole network.
        analog_macs: those that stay analog, once an image.
        analog_ace: their effort at 32 bits times 32 bits, at every run; not in ``s_ace``.
        input_layer_s_ace: the share of ``s_ace`` of the layers that read the network's input.
        input_layer_ns_ace: the same of ``ns_ace``.
        synops: synaptic operations.
        accumulates: additions when all spikes are sent bit by bit.
        word_macs: multiply-accumulates when words are sent as integers.
        spikes_per_neuron: mean over the values that layers read.
        weight_bytes: of the spiking layers' weights at b_w bits; of a layer that is used twice, twice.
        state_bytes: of their outputs' membranes at 32 bits.
        ann_operations: element-wise operations of the ANN.
        real_operations: those that stay analog: on real numbers.
        integer_operations: those on currents.
    """

    bit_budget: float
    bit_budget_by_weights: float
    bit_budget_by_neurons: float
    bit_budget_of_means: float
    largest_bit_budget: float
    s_ace: int
    ns_ace: float
    macs: int
    analog_macs: int
    analog_ace: int
    input_layer_s_ace: int
    input_layer_ns_ace: float
    synops: float
    accumulates: float
    word_macs: float
    spikes_per_neuron: float
    weight_bytes: int
    state_bytes: int
    ann_operations: int
    real_operations: int
    integer_operations: int


def layer_account(
    name: str,
    op: str,
    macs: int,
    sizes: LayerSizes,
    *,
    T: int,
    spike_bits: int,
    levels: int,
    weight_bits: int | Fraction,
    statistics: SpikeStatistics,
    reads_input: bool,
) -> LayerAccount:
    """The account of one layer.

    Args:
        name: the layer's.
        op: its operator.
        macs: multiply-accumulates per image, of one pass.
        sizes: the layer's.
        T: time steps.
        spike_bits: b_s.
        levels: values a window can stand for.
        weight_bits: b_w.
        statistics: of the spikes it reads.
        reads_input: whether it reads the network's input.
    """
    effort = s_ace(macs, weight_bits, spike_bits, T)
    return LayerAccount(
        name=name,
        op=op,
        macs=macs,
        T=T,
        spike_bits=spike_bits,
        weight_bits=_number(weight_bits),
        bit_budget=_number(T * weight_bits * spike_bits),
        s_ace=effort,
        ns_ace=effort * statistics.firing_rate,
        firing_rate=statistics.firing_rate,
        spikes_per_neuron=statistics.spikes_per_neuron,
        word_sparsity=statistics.word_sparsity,
        bit_sparsity=statistics.bit_sparsity,
        reads_input=reads_input,
        inputs=sizes.inputs,
        outputs=sizes.outputs,
        fan_in=sizes.fan_in,
        weights=sizes.weights,
        levels=levels,
        synops=macs * T * statistics.firing_rate,
        accumulates=macs * T * spike_bits * (1 - statistics.bit_sparsity),
        word_macs=macs * (1 - statistics.word_sparsity),
        weight_bytes=math.ceil(sizes.weights * weight_bits / 8),
        state_bytes=sizes.outputs * MEMBRANE_BITS // 8,
    )


def totals_of(
    layers: Sequence[LayerAccount],
    analog: Sequence[AnalogReport],
    *,
    ann_operations: int = 0,
    integer_operations: int = 0,
) -> Totals:
    """Sums and means; see :class:`Totals`."""
    analog_macs = sum(item.macs for item in analog)
    return Totals(
        bit_budget=_mean(layers, lambda layer: layer.bit_budget, lambda layer: layer.macs),
        bit_budget_by_weights=_mean(layers, lambda layer: layer.bit_budget, lambda layer: layer.weights),
        bit_budget_by_neurons=_mean(layers, lambda layer: layer.bit_budget, lambda layer: layer.inputs),
        bit_budget_of_means=_budget_of_means(layers),
        largest_bit_budget=max((layer.bit_budget for layer in layers), default=0.0),
        s_ace=sum(layer.s_ace for layer in layers),
        ns_ace=sum(layer.ns_ace for layer in layers),
        macs=sum(layer.macs for layer in layers) + analog_macs,
        analog_macs=analog_macs,
        analog_ace=sum(item.macs * item.runs for item in analog) * REAL_BITS * REAL_BITS,
        input_layer_s_ace=sum(layer.s_ace for layer in layers if layer.reads_input),
        input_layer_ns_ace=sum(layer.ns_ace for layer in layers if layer.reads_input),
        synops=sum(layer.synops for layer in layers),
        accumulates=sum(layer.accumulates for layer in layers),
        word_macs=sum(layer.word_macs for layer in layers),
        spikes_per_neuron=_mean(layers, lambda layer: layer.spikes_per_neuron, lambda layer: layer.inputs),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        state_bytes=sum(layer.state_bytes for layer in layers),
        ann_operations=ann_operations,
        real_operations=sum(item.operations * item.runs for item in analog),
        integer_operations=integer_operations,
    )


def workload_of(layers: Sequence[LayerAccount], analog: Sequence[AnalogReport], totals: Totals) -> Workload:
    """The account in the terms of models of energy; analog multiply-accumulates are layers that read real numbers."""
    return Workload(
        layers=(*map(_work, layers), *(_analog_work(item) for item in analog if item.macs)),
        ann_operations=totals.ann_operations,
        real_operations=totals.real_operations,
        integer_operations=totals.integer_operations,
    )


def _work(layer: LayerAccount) -> LayerWork:
    return LayerWork(
        name=layer.name,
        macs=layer.macs,
        fan_in=layer.fan_in,
        inputs=layer.inputs,
        outputs=layer.outputs,
        weights=layer.weights,
        weight_bits=layer.weight_bits,
        spike_bits=layer.spike_bits,
        T=layer.T,
        levels=layer.levels,
        firing_rate=layer.firing_rate,
        bit_density=1 - layer.bit_sparsity,
        word_density=1 - layer.word_sparsity,
        reads_input=layer.reads_input,
    )


def _analog_work(item: AnalogReport) -> LayerWork:
    return LayerWork(
        name=item.name, macs=item.macs, fan_in=1, inputs=0, outputs=0, weights=0, weight_bits=REAL_BITS,
        spike_bits=REAL_BITS, T=item.runs, levels=2, firing_rate=1.0, bit_density=1.0, word_density=1.0, spiking=False,
    )  # fmt: skip


def _mean(
    layers: Sequence[LayerAccount], value: Callable[[LayerAccount], float], weight: Callable[[LayerAccount], float]
) -> float:
    total = sum(weight(layer) for layer in layers)
    return sum(value(layer) * weight(layer) for layer in layers) / total if total else 0.0


def _budget_of_means(layers: Sequence[LayerAccount]) -> float:
    return (
        _mean(layers, lambda layer: layer.weight_bits, lambda layer: layer.weights)
        * _mean(layers, lambda layer: layer.spike_bits, lambda layer: layer.inputs)
        * _mean(layers, lambda layer: layer.T, lambda layer: layer.inputs)
    )


def _number(value: int | Fraction) -> int | float:
    return int(value) if value == int(value) else float(value)
