"""The layers, one row each: widths, effort, activity, fidelity and energy."""

from __future__ import annotations

from snnconvert.energy.cost import Network
from snnconvert.report.schema import LayerReport, ReportData
from snnconvert.report.view.layer_energy import layer_costs
from snnconvert.report.view.numbers import count, decimal, energy, percent, ratio, short, times
from snnconvert.report.view.parts import Cell, Column, Table

_COLUMNS = (
    Column("#", "place in the network, and in the pictures"),
    Column("layer", "the layer's name", text=True),
    Column("operator", text=True),
    Column("b_w/b_s/T", "weight bits, spike bits, time steps"),
    Column("BB", "bit budget, their product"),
    Column("MACs", "multiply-accumulates for one image"),
    Column("S-ACE", "MACs × BB"),
    Column("NS-ACE", "S-ACE × rate"),
    Column("rate", "share of spikes it reads that are not zero"),
    Column("words 0", "share of neurons it reads that stay silent for the whole window"),
    Column("bits 0", "share of zeros among the bits it reads"),
    Column("SynOps", "spikes that are not zero times the weights they meet"),
    Column("SQNR dB", "of the layer's output against the ANN's"),
    Column("E bit by bit", "energy of the spiking network sent bit by bit, twin model"),
    Column("E twin", "energy of the twin QNN, twin model"),
    Column("ratio", "of the two"),
)


def layer_table(report: ReportData) -> Table:
    """One row a layer; energies by the twin model with the report's constants."""
    costs = layer_costs(report)
    rows = tuple(
        _row(index, layer, costs[Network.SNN_SERIAL][index].total, costs[Network.TWIN_QNN][index].total)
        for index, layer in enumerate(report.layers)
    )
    return Table("layers that read spikes", _COLUMNS, rows)


def widths(layer: LayerReport) -> str:
    """b_w/b_s/T."""
    return f"{round(layer.weight_bits, 2):g}/{layer.spike_bits}/{layer.T}"


def _row(index: int, layer: LayerReport, serial: float, twin: float) -> tuple[Cell, ...]:
    ordered = layer.weight_bits * 1e6 + layer.spike_bits * 1e3 + layer.T
    apart = ratio(serial, twin)
    return (
        Cell(str(index + 1), index),
        Cell(layer.name, layer.name),
        Cell(layer.op, layer.op),
        Cell(widths(layer), ordered),
        Cell(short(layer.bit_budget), layer.bit_budget),
        Cell(count(layer.macs), layer.macs),
        Cell(count(layer.s_ace), layer.s_ace),
        Cell(count(layer.ns_ace), layer.ns_ace),
        Cell(percent(layer.firing_rate), layer.firing_rate),
        Cell(percent(layer.word_sparsity), layer.word_sparsity),
        Cell(percent(layer.bit_sparsity), layer.bit_sparsity),
        Cell(count(layer.synops), layer.synops),
        Cell(decimal(layer.sqnr_db, 1), layer.sqnr_db),
        Cell(energy(serial), serial),
        Cell(energy(twin), twin),
        Cell(times(apart), apart),
    )
