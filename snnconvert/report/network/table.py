"""The account of a network as text."""

from __future__ import annotations

from collections.abc import Sequence

from snnconvert.energy.comparison import EnergyAccount
from snnconvert.energy.verdict import spelled_cost
from snnconvert.report.layer_account import AnalogReport, LayerAccount, Totals
from snnconvert.report.layer_cells import ACTIVITY_HEADERS, EFFORT_HEADERS, LEGEND, activity_cells, effort_cells
from snnconvert.report.text import format_table, quantity

_HEADERS = ("layer", "op", *EFFORT_HEADERS, *ACTIVITY_HEADERS)
_NETWORKS = ("snn_serial", "snn_packed", "twin_qnn", "ann_float32")
_LEGEND = f"{LEGEND}; *: no synapse comes before"


def network_table(
    layers: Sequence[LayerAccount],
    analog: Sequence[AnalogReport],
    totals: Totals,
    energy: EnergyAccount,
    notes: Sequence[str],
) -> str:
    """Layers on spikes, synapses on real numbers, element-wise work, sums, energies, notes."""
    parts = [format_table(_HEADERS, [_row(layer) for layer in layers], left=2), _LEGEND] if layers else []
    real = [item for item in analog if item.macs]
    if real:
        rows = [[item.name, item.op, quantity(item.macs), str(item.runs), item.reason] for item in real]
        parts.append(format_table(("analog layer", "op", "MACs", "runs", "reason"), rows, left=5))
    parts.append("\n".join([*_sums(totals), *_energies(energy), *(f"note          {note}" for note in notes)]))
    return "\n\n".join(parts)


def _row(layer: LayerAccount) -> list[str]:
    return [
        f"{layer.name}{' *' if layer.reads_input else ''}",
        layer.op,
        *effort_cells(layer),
        *activity_cells(layer),
    ]


def _sums(totals: Totals) -> list[str]:
    spiking = totals.macs - totals.analog_macs
    share = f"{spiking / totals.macs:.2%}" if totals.macs else "none"
    lines = [
        f"coverage      {share} of {quantity(totals.macs)} MACs on spikes",
        f"bit budget    {totals.bit_budget:.4g} = mean of b_w x b_s x T over MACs",
        f"effort        S-ACE {quantity(totals.s_ace)} per image (input layer {quantity(totals.input_layer_s_ace)}), "
        f"NS-ACE {quantity(totals.ns_ace)}; {quantity(totals.synops)} synaptic operations",
    ]
    if totals.analog_macs or totals.real_operations:
        lines.append(
            f"analog        {quantity(totals.analog_macs)} MACs on real numbers, ACE {quantity(totals.analog_ace)} "
            f"with all runs; {quantity(totals.real_operations)} element-wise operations"
        )
    return lines


def _energies(energy: EnergyAccount) -> list[str]:
    lines = []
    for model in energy.models:
        serial, packed, twin, ann = (spelled_cost(model.totals[name].total, model.unit) for name in _NETWORKS)
        lines.append(f"{model.model:<14}{serial} bit by bit, {packed} packed; twin {twin}, float32 ANN {ann}")
    return lines
