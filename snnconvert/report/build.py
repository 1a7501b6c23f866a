"""Builds a report from a plan, its thresholds and what was measured."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

import snnconvert.version
from snnconvert.calibration.repair import LayerMeasurement
from snnconvert.config import ConversionConfig
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import spelled
from snnconvert.neurons.threshold import Threshold
from snnconvert.report.account import s_ace, spike_statistics
from snnconvert.report.report import AnalogReport, Coverage, Fidelity, LayerReport, Report, Totals
from snnconvert.report.statistics import decibels

_REAL_BITS = 32


def build_report(
    plan: Plan,
    thresholds: Mapping[int, Threshold],
    measurements: Mapping[str, LayerMeasurement],
    weight_counts: Mapping[str, int],
    widths: Mapping[str, Tensor],
    fidelity: Fidelity,
    config: ConversionConfig,
    calibration_images: int,
) -> Report:
    """Assembles the report of one conversion.

    Args:
        plan: the plan.
        thresholds: threshold of each family of sites.
        measurements: of each synapse, by node name.
        weight_counts: number of weights of each synapse, by node name.
        widths: weight bits of each output channel [O] of the synapses that don't have the plan's, by node name.
        fidelity: agreement of SNN and ANN.
        config: the settings.
        calibration_images: how many images calibrated it.
    """
    mean_bits = {item.node: _mean_bits(item, widths.get(item.node)) for item in plan.synapses}
    layers = tuple(
        _layer(item, thresholds[item.family], measurements[item.node], mean_bits[item.node]) for item in plan.synapses
    )
    bits = sum(weight_counts[item.node] * mean_bits[item.node] for item in plan.synapses)
    return Report(
        metric=None,
        fidelity=fidelity,
        coverage=Coverage(plan.coverage),
        totals=_totals(plan, layers, math.ceil(bits / 8)),
        layers=layers,
        analog=tuple(AnalogReport(item.layer, item.op, item.reason, item.macs) for item in plan.analog),
        config=config.to_dict(),
        calibration_images=calibration_images,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of what produced the figures."""
    return {
        "snnconvert": snnconvert.version.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _mean_bits(plan: SynapsePlan, widths: Tensor | None) -> int | Fraction:
    """b_w of a layer, the mean of its channels."""
    return plan.weight_bits if widths is None else Fraction(int(widths.sum()), len(widths))


def _number(value: int | Fraction) -> int | float:
    return int(value) if value == int(value) else float(value)


def _layer(
    plan: SynapsePlan, threshold: Threshold, measured: LayerMeasurement, weight_bits: int | Fraction
) -> LayerReport:
    code = threshold.code
    statistics = spike_statistics(measured.activity)
    effort = s_ace(plan.macs, weight_bits, code.spike_bits, code.T)
    return LayerReport(
        name=plan.layer,
        op=plan.op,
        macs=plan.macs,
        T=code.T,
        spike_bits=code.spike_bits,
        weight_bits=_number(weight_bits),
        bit_budget=_number(code.T * weight_bits * code.spike_bits),
        s_ace=effort,
        ns_ace=effort * statistics.firing_rate,
        code=_code_name(code),
        threshold=threshold.step * code.span,
        step=threshold.step,
        offset=code.offset,
        firing_rate=statistics.firing_rate,
        spikes_per_neuron=statistics.spikes_per_neuron,
        word_sparsity=statistics.word_sparsity,
        bit_sparsity=statistics.bit_sparsity,
        sqnr_db=decibels(measured.signal, measured.noise),
        reads_input=plan.reads_input,
    )


def _code_name(code: SpikeCode) -> str:
    sign = ", offset" if code.offset else ", signed" if code.signed else ""
    return f"{spelled(code)}{sign}"


def _totals(plan: Plan, layers: tuple[LayerReport, ...], weight_bytes: int) -> Totals:
    analog_macs = sum(item.macs for item in plan.analog)
    return Totals(
        bit_budget=sum(layer.s_ace for layer in layers) / max(plan.spiking_macs, 1),
        s_ace=sum(layer.s_ace for layer in layers),
        ns_ace=sum(layer.ns_ace for layer in layers),
        macs=plan.total_macs,
        analog_macs=analog_macs,
        analog_ace=analog_macs * _REAL_BITS * _REAL_BITS,
        input_layer_s_ace=sum(layer.s_ace for layer in layers if layer.reads_input),
        weight_bytes=weight_bytes,
    )
