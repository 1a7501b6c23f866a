"""Which sites can have a zero point for each channel: neurons that fire on x_c − s_c, readers that add W·s back.

Spikes of shifted channels mean s_c + Δ_c·z. Only layers with weights can read them, W·(s + Δ·z) = W·s + (W·Δ)·z with
the first term in their biases, and only where neurons fired every value they read: a padded border stands for x = 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from snnconvert.convert.channels import SpikeChannels
from snnconvert.convert.insert import geometry_of
from snnconvert.convert.ops import TRANSPOSED
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.neurons.threshold import Threshold

FEWEST_VALUES = 8  # of a word: with fewer, smaller errors of single sites made whole networks no better


@dataclass(frozen=True)
class ShiftableSites:
    """What :func:`shiftable_sites` finds among the sites without an activation of their own.

    Attributes:
        families: the family of each that can be shifted.
        centred: why the others can't, by layer name.
    """

    families: frozenset[int]
    centred: Mapping[str, str]

    def notes(self, thresholds: Mapping[int, Threshold]) -> tuple[str, ...]:
        """For the report: how many sites have shifts, and what keeps the others; () without any."""
        shifted = sum(1 for family in self.families if thresholds[family].channel_shifts)
        counts = Counter(self.centred.values())
        if shifted < len(self.families):
            counts["no channel gains by it"] = len(self.families) - shifted
        others = "; ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        total = len(self.families) + len(self.centred)
        if total == 0:
            return ()
        ending = f", not where {others}" if others else ""
        return (f"zero points per channel at {shifted} of {total} sites without an activation of their own{ending}",)


def shiftable_sites(graph: fx.Graph, plan: Plan, channels: SpikeChannels) -> ShiftableSites:
    """Finds the sites all of whose readers can take shifts into their biases.

    Args:
        graph: the canonical graph.
        plan: its plan.
        channels: which of its sites have thresholds per channel.
    """
    nodes = {node.name: node for node in graph.nodes}
    readers: dict[int, list[SynapsePlan]] = {}
    for item in plan.synapses:
        readers.setdefault(item.family, []).append(item)
    families, centred = set(), {}
    for site in plan.sites:
        if site.origin != "inserted":
            continue
        if site.family not in channels.sites:
            centred[site.layer] = channels.shared.get(site.layer, "values have no channels")
        elif any(_pads(nodes[item.node]) for item in readers.get(site.family, ())):
            centred[site.layer] = "a layer pads what it reads"
        elif site.code.span < FEWEST_VALUES - 1:
            centred[site.layer] = f"words have fewer than {FEWEST_VALUES} values"
        else:
            families.add(site.family)
    return ShiftableSites(frozenset(families), centred)


def _pads(node: fx.Node) -> bool:
    """Whether some outputs of a synapse see fewer inputs than others."""
    geometry = geometry_of(node)
    return geometry is not None and (node.target in TRANSPOSED or any(geometry.padding))
