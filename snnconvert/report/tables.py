"""Plain-text tables of plans and reports for a terminal."""

from __future__ import annotations

from collections import Counter

from snnconvert.convert.plan import Plan
from snnconvert.report.allocation import Allocation
from snnconvert.report.energy_table import energy_table
from snnconvert.report.layer_cells import ACTIVITY_HEADERS, EFFORT_HEADERS, LEGEND, activity_cells, effort_cells
from snnconvert.report.report import Report
from snnconvert.report.schema import LayerReport, Metric
from snnconvert.report.text import format_table, quantity

_ANALOG_SHOWN = 12
_LEGEND = f"{LEGEND}; SQNR: of the layer's output against the ANN"


def plan_table(plan: Plan) -> str:
    """The plan: one row a synapse and a row an analog node, then the totals."""
    rows = [
        [
            item.layer,
            item.op,
            "input spikes" if item.reads_input else "spikes",
            item.neuron,
            f"{item.weight_bits}/{item.bits}/{item.T}",
            quantity(item.macs),
            "",
        ]
        for item in plan.synapses
    ]
    rows += [
        [item.layer, item.op, "analog", "-", "-", quantity(item.macs) if item.macs else "-", item.reason]
        for item in plan.analog
    ]
    table = format_table(["layer", "op", "action", "code", "b_w/b_s/T", "MACs", "reason if analog"], rows, left=7)
    neurons = Counter(site.origin for site in plan.sites)
    placed = ", ".join(f"{count} {origin}" for origin, count in sorted(neurons.items()))
    totals = (
        f"{table}\n\n{len(plan.synapses)} synapse layers, neuron layers: {placed}; {len(plan.analog)} analog nodes\n"
        f"{plan.coverage:.2%} of {quantity(plan.total_macs)} MACs on spikes, mean bit budget {plan.bit_budget:.4g}"
    )
    return "\n".join([totals, *(f"note: {note}" for note in plan.notes)])


def report_table(report: Report) -> str:
    """The report's layers, analog remainder and headline."""
    headers = ["layer", "op", *EFFORT_HEADERS, "threshold", *ACTIVITY_HEADERS, "SQNR dB"]
    parts = [format_table(headers, [_layer_row(layer) for layer in report.layers], left=2), _LEGEND]
    if report.analog:
        parts.append(_analog_lines(report))
    if report.allocation is not None:
        parts.append(_allocation_lines(report.allocation))
    parts += [energy_table(report.energy), _headline(report)]
    return "\n\n".join(parts)


def _layer_row(layer: LayerReport) -> list[str]:
    return [
        layer.name,
        layer.op,
        *effort_cells(layer),
        f"{layer.threshold:.4g}",
        *activity_cells(layer),
        "-" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
    ]


def _analog_lines(report: Report) -> str:
    grouped = Counter((item.op, item.reason) for item in report.analog)
    shown = [f"  {count} x {op}: {reason}" for (op, reason), count in grouped.most_common(_ANALOG_SHOWN)]
    hidden = len(grouped) - len(shown)
    more = [f"  and {hidden} more kinds, all named in report.json"] if hidden > 0 else []
    return "\n".join([f"stays analog ({len(report.analog)} nodes, each named in report.json):", *shown, *more])


def _allocation_lines(allocation: Allocation) -> str:
    rows = [
        [
            f"{index + 1}{' (kept)' if index == allocation.chosen else ''}",
            f"{item.bit_budget:.4g}",
            "-" if item.energy_uj is None else f"{item.energy_uj:.4g}",
            f"{item.predicted_error:.3g}",
            f"{item.measured_error:.3g}",
            "-" if item.top1_agreement is None else f"{item.top1_agreement:.1%}",
            "-" if item.drop is None else f"{item.drop:.2f}",
        ]
        for index, item in enumerate(allocation.rounds)
    ]
    headers = ["round", "BB", "energy uJ", "predicted error", "measured error", "agreement", "drop"]
    return (
        f"allocation for {allocation.objective} {allocation.target:g}: b_w/b_s/T of every layer as above; errors are\n"
        f"relative squared errors of the output on {allocation.images} images\n{format_table(headers, rows)}"
    )


def metric_line(metric: Metric) -> str:
    """One line on a metric."""
    name = "accuracy" if metric.name == "top1" else metric.name
    line = (
        f"{name:<12}ANN {metric.ann:.2%}, SNN {metric.snn:.2%} on {metric.images} images; "
        f"difference {100 * (metric.snn - metric.ann):+.2f} points"
    )
    if metric.difference_ci95 is None:
        return line
    low, high = metric.difference_ci95
    return f"{line}, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}"


def _headline(report: Report) -> str:
    totals, fidelity = report.totals, report.fidelity
    lines = [f"note        {note}" for note in report.notes]
    if report.metric is not None:
        lines.append(metric_line(report.metric))
    agreement = "not defined" if fidelity.top1_agreement is None else f"{fidelity.top1_agreement:.2%}"
    sqnr = "not defined" if fidelity.logit_sqnr_db is None else f"{fidelity.logit_sqnr_db:.1f} dB"
    lines += [
        f"fidelity    top-1 agreement with the ANN {agreement}, logit SQNR {sqnr} "
        f"on {fidelity.images} images ({fidelity.measured_on})",
        f"coverage    {report.coverage.macs_on_spikes:.2%} of {quantity(totals.macs)} MACs on spikes",
        f"bit budget  {totals.bit_budget:.4g} = mean of b_w x b_s x T over MACs, {totals.bit_budget_by_weights:.4g} "
        f"over weights, {totals.bit_budget_by_neurons:.4g} over neurons, at most {totals.largest_bit_budget:.4g}",
        f"memory      weights {quantity(totals.weight_bytes)}B, membranes {quantity(totals.state_bytes)}B",
        f"effort      S-ACE {quantity(totals.s_ace)} per image (input layer {quantity(totals.input_layer_s_ace)}), "
        f"NS-ACE {quantity(totals.ns_ace)}",
        f"operations  {quantity(totals.synops)} SynOps, {quantity(totals.accumulates)} additions bit by bit or "
        f"{quantity(totals.word_macs)} MACs on words; {quantity(totals.integer_operations)} on currents, "
        f"{quantity(totals.real_operations)} on real numbers",
    ]
    if totals.analog_macs:
        macs, ace = quantity(totals.analog_macs), quantity(totals.analog_ace)
        lines.append(f"            analog: {macs} MACs at 32 x 32 bits, ACE {ace}")
    if report.data:
        lines.append(f"data        {report.data}")
    return "\n".join(lines)
