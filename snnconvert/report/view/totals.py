"""Budgets and operations, explained in words."""

from __future__ import annotations

from snnconvert.report.layer_account import Totals
from snnconvert.report.view.numbers import count, digits, short
from snnconvert.report.view.parts import Cell, Column, Table

_BUDGET, _COUNT, _BYTES, _MEAN = "budget", "count", "bytes", "mean"
TOTALS: tuple[tuple[str, str, str, str], ...] = (
    ("bit_budget", "Bit budget, by MACs", _BUDGET, "mean of b_w × b_s × T over the multiply-accumulates on spikes"),
    ("bit_budget_by_weights", "Bit budget, by weights", _BUDGET, "the same mean over weights"),
    ("bit_budget_by_neurons", "Bit budget, by neurons", _BUDGET, "the same mean over the values that layers read"),
    ("bit_budget_of_means", "Bit budget of means", _BUDGET, "product of the means of b_w, b_s and T"),
    ("largest_bit_budget", "Largest bit budget", _BUDGET, "of any layer"),
    ("macs", "Multiply-accumulates", _COUNT, "of the whole network for one image, each counted once whatever T is"),
    ("analog_macs", "Analog MACs", _COUNT, "those that stay analog: on real numbers instead of spikes"),
    ("s_ace", "S-ACE", _COUNT, "arithmetic effort: pairs of bits that meet, MACs × BB"),
    ("input_layer_s_ace", "S-ACE of input layers", _COUNT, "the share of layers that read the network's input"),
    ("ns_ace", "NS-ACE", _COUNT, "S-ACE × share of spikes that are not zero"),
    ("input_layer_ns_ace", "NS-ACE of input layers", _COUNT, "the share of layers that read the network's input"),
    ("analog_ace", "Analog ACE", _COUNT, "effort of what stays analog, at 32 × 32 bits; not part of S-ACE"),
    ("synops", "SynOps", _COUNT, "synaptic operations: a spike that is not zero meets a weight"),
    ("accumulates", "Accumulates", _COUNT, "additions when spikes are sent bit by bit: one for each bit that is one"),
    ("word_macs", "Packed MACs", _COUNT, "multiply-accumulates when a window is sent as one integer, none where zero"),
    ("spikes_per_neuron", "Spikes per neuron", _MEAN, "mean number of spikes that are not zero in a window"),
    ("weight_bytes", "Weights", _BYTES, "memory of the spiking layers' weights at b_w bits"),
    ("state_bytes", "Membranes", _BYTES, "memory of the neurons' potentials, 32 bits each"),
    ("ann_operations", "Operations, ANN", _COUNT, "element-wise ones: activation functions, sums, pools, norms"),
    ("real_operations", "Operations on real numbers", _COUNT, "those that stay analog in the spiking network"),
    (
        "integer_operations",
        "Operations on currents",
        _COUNT,
        "additions of integers in the spiking network",
    ),
)


def totals_table(totals: Totals) -> Table:
    """All totals, with what they mean."""
    rows = tuple(
        (Cell(name), Cell(spelled_total(kind, getattr(totals, field))), Cell(meaning))
        for field, name, kind, meaning in TOTALS
    )
    return Table("totals for one image", (Column("", text=True), Column("value"), Column("meaning", text=True)), rows)


def spelled_total(kind: str, value: float) -> str:
    """A total as its kind is read."""
    if kind == _BUDGET:
        return short(value)
    if kind == _BYTES:
        return count(value, "B")
    return digits(value) if kind == _MEAN else count(value)
