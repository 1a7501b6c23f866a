"""Builds a report from a plan, its thresholds and what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from snnconvert.calibration.repair import LayerMeasurement
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.config import ConversionConfig
from snnconvert.convert.layer_sizes import LayerSizes
from snnconvert.convert.operations import Operations
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.energy.comparison import compare_energy
from snnconvert.energy.profile import load_profile
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold
from snnconvert.report.effort import spike_statistics
from snnconvert.report.layer_account import AnalogReport, layer_account, totals_of, workload_of
from snnconvert.report.neurons import code_name, neuron_reports
from snnconvert.report.report import Report
from snnconvert.report.schema import Coverage, Fidelity, LayerReport
from snnconvert.report.statistics import decibels
from snnconvert.report.versions import versions


@dataclass(frozen=True)
class Evidence:
    """What a report is made of.

    Attributes:
        thresholds: threshold of each family of sites.
        histograms: of the values at sites, by node name.
        measurements: of each synapse, by node name.
        widths: weight bits of each output channel [O] of the synapses that don't have the plan's, by node name.
        sizes: of each synapse, by node name.
        operations: element-wise work.
        readers: the layers that read each site, by node name.
    """

    thresholds: Mapping[int, Threshold]
    histograms: Mapping[str, ValueHistogram]
    measurements: Mapping[str, LayerMeasurement]
    widths: Mapping[str, Tensor]
    sizes: Mapping[str, LayerSizes]
    operations: Operations
    readers: Mapping[str, tuple[str, ...]]


def build_report(
    plan: Plan, evidence: Evidence, fidelity: Fidelity, config: ConversionConfig, calibration_images: int
) -> Report:
    """Assembles the report of one conversion; energies are those of the default profile.

    Args:
        plan: the plan.
        evidence: what calibration chose and measured.
        fidelity: agreement of SNN and ANN.
        config: the settings.
        calibration_images: how many images calibrated it.
    """
    layers = tuple(_layer(item, evidence) for item in plan.synapses)
    by_node = evidence.operations.by_node
    analog = tuple(
        AnalogReport(item.layer, item.op, item.reason, item.macs, by_node.get(item.node, 0)) for item in plan.analog
    )
    totals = totals_of(
        layers,
        analog,
        ann_operations=evidence.operations.ann,
        integer_operations=evidence.operations.integer,
    )
    return Report(
        metric=None,
        fidelity=fidelity,
        coverage=Coverage(plan.coverage),
        totals=totals,
        layers=layers,
        analog=analog,
        energy=compare_energy(workload_of(layers, analog, totals), load_profile()),
        config=config.to_dict(),
        calibration_images=calibration_images,
        neurons=neuron_reports(plan, evidence.thresholds, evidence.histograms, evidence.readers),
        versions=versions(),
    )


def _weight_bits(plan: SynapsePlan, evidence: Evidence) -> int | Fraction:
    """b_w of a layer, the mean of its channels; of a product the bits of the second factor's words, a sign included."""
    widths = evidence.widths.get(plan.node)
    if widths is not None:
        return Fraction(int(widths.sum()), len(widths))
    is_signed = plan.held_family is not None and evidence.thresholds[plan.held_family].code.signed
    return plan.weight_bits + int(is_signed)


def _layer(plan: SynapsePlan, evidence: Evidence) -> LayerReport:
    threshold, measured = evidence.thresholds[plan.family], evidence.measurements[plan.node]
    code = threshold.code
    account = layer_account(
        plan.layer,
        plan.op,
        plan.macs,
        evidence.sizes[plan.node],
        T=code.T,
        spike_bits=code.spike_bits,
        levels=_levels(code),
        weight_bits=_weight_bits(plan, evidence),
        statistics=spike_statistics(measured.activity),
        reads_input=plan.reads_input,
    )
    return LayerReport(
        **{item.name: getattr(account, item.name) for item in dataclasses.fields(account)},
        code=code_name(code),
        threshold=threshold.step * code.span,
        step=threshold.step,
        offset=code.offset,
        sqnr_db=decibels(measured.signal, measured.noise),
    )


def _levels(code: SpikeCode) -> int:
    """How many values a window can stand for."""
    return len(code.words) or round(code.span) + 1
