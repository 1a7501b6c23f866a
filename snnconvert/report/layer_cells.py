"""What every table of layers on a terminal says of one: effort and activity."""

from __future__ import annotations

from snnconvert.report.layer_account import LayerAccount
from snnconvert.report.text import quantity

LEGEND = (
    "b_w/b_s/T: weight bits, spike bits, time steps; BB: bit budget, their product; S-ACE: MACs x BB;\n"
    "NS-ACE: S-ACE x rate; rate: share of non-zero input spikes; words 0, bits 0: share of zeros among input\n"
    "words (neurons silent in all steps) and among their bits"
)
EFFORT_HEADERS = ("MACs", "b_w/b_s/T", "BB", "S-ACE", "NS-ACE")
ACTIVITY_HEADERS = ("rate", "words 0", "bits 0")


def effort_cells(layer: LayerAccount) -> list[str]:
    """Under :data:`EFFORT_HEADERS`."""
    return [
        quantity(layer.macs),
        f"{round(layer.weight_bits, 2)}/{layer.spike_bits}/{layer.T}",
        str(round(layer.bit_budget, 2)),
        quantity(layer.s_ace),
        quantity(layer.ns_ace),
    ]


def activity_cells(layer: LayerAccount) -> list[str]:
    """Under :data:`ACTIVITY_HEADERS`."""
    return [f"{layer.firing_rate:.3f}", f"{layer.word_sparsity:.3f}", f"{layer.bit_sparsity:.3f}"]
