"""Steps behind products of words: so that neurons' gain has 8 bits, and runtimes multiply bytes in one kernel.

z_a·z_b·(Δ_a·Δ_b/Δ) is exact in float32, in any order, where Δ_a·Δ_b/Δ is a number of 8 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import torch
from torch import fx

from snnconvert.convert.aligned_sums import has_one_step, short_above, short_below
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.neurons.threshold import Threshold

_ELEMENTWISE = torch.ops.aten.mul.Tensor


def aligned_products(
    graph: fx.Graph, plan: Plan, thresholds: Mapping[int, Threshold], kept: frozenset[int] = frozenset()
) -> dict[int, Threshold]:
    """Thresholds with Δ' = Δ_a·Δ_b/q, q the next number of 8 bits below Δ_a·Δ_b/Δ, of what reads such a product alone.

    Where sums of words read those, Δ stays and a factor's becomes Δ_b' = q·Δ/Δ_a, q the next number above. No step
    grows by more than a 128th. Steps a channel stay as they are.

    Args:
        graph: the canonical graph.
        plan: its plan.
        thresholds: threshold of each family of sites.
        kept: families whose thresholds must stay.
    """
    found, nodes = dict(thresholds), {node.name: node for node in graph.nodes}
    sites = {site.node: site.family for site in plan.sites}
    readers = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    shared = {family for family, count in Counter(site.family for site in plan.sites).items() if count > 1}
    fixed = shared | kept | _added(graph, sites)
    for item in plan.synapses:
        node, held = nodes[item.node], item.held_family
        if held is None or node.target is not _ELEMENTWISE:
            continue
        factors = item.family, held
        for family in [readers[user.name] for user in node.users if user.name in readers] or [sites.get(node.name, -1)]:
            aligned = _aligned(factors, family, found, fixed)
            if aligned:
                found.update(aligned)
                fixed |= {*factors, family}
    return found


def _aligned(
    factors: tuple[int, int], reader: int, thresholds: Mapping[int, Threshold], fixed: Collection[int]
) -> dict[int, Threshold]:
    """The threshold that changes so that the reader's gain has 8 bits: its own, or a factor's; none if none may."""
    first, second, own = (thresholds.get(family) for family in (*factors, reader))
    if not (has_one_step(first) and has_one_step(second) and has_one_step(own)):
        return {}
    unit = first.step * second.step
    if reader not in fixed:
        return {reader: Threshold(unit / short_below(unit / own.step), own.code)}
    for family, factor, other in ((factors[1], second, first), (factors[0], first, second)):
        if family not in fixed and factors[0] != factors[1]:
            return {family: Threshold(short_above(unit / own.step) * own.step / other.step, factor.code)}
    return {}


def _added(graph: fx.Graph, sites: Mapping[str, int]) -> set[int]:
    """The families whose words sums read."""
    sums = [node for node in graph.nodes if kind_of(node) is OpKind.ADD]
    return {sites[operand.name] for node in sums for operand in node.all_input_nodes if operand.name in sites}
