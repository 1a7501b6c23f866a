"""Steps of neurons that share a membrane: powers of two apart, so that the gains of all lie on the grid of units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from torch import fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.neurons.threshold import Threshold


def aligned_steps(graph: fx.Graph, plan: Plan, thresholds: Mapping[int, Threshold]) -> dict[int, Threshold]:
    """Thresholds with Δ' = Δ₁·2^−⌊log2(Δ₁/Δ)⌋ ≥ Δ for a rectifier's neurons behind others with Δ₁ on its potential.

    The unit of a current is placed for the first neurons that read it; a power of two away, the gain of further
    ones is a number of as few bits.

    Args:
        graph: the canonical graph.
        plan: its plan.
        thresholds: threshold of each family of sites.
    """
    alone = Counter(site.family for site in plan.sites)
    families = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    first: dict[fx.Node, Threshold] = {}
    aligned = dict(thresholds)
    for node in graph.nodes:
        if node.name not in families or kind_of(node) is not OpKind.RECTIFIER:
            continue
        family, potential = families[node.name], node.all_input_nodes[0]
        if potential in first and alone[family] == 1:
            aligned[family] = _aligned(aligned[family], first[potential])
        first.setdefault(potential, aligned[family])
    return aligned


def _aligned(threshold: Threshold, base: Threshold) -> Threshold:
    if len(threshold.channel_steps) != len(base.channel_steps):
        return threshold
    if threshold.channel_steps:
        pairs = zip(threshold.channel_steps, base.channel_steps, strict=True)
        return Threshold.per_channel((_shifted(step, origin) for step, origin in pairs), threshold.code)
    return Threshold(_shifted(threshold.step, base.step), threshold.code)


def _shifted(step: float, base: float) -> float:
    """The smallest power of two times ``base`` that isn't below ``step``."""
    return base * 2.0 ** -math.floor(math.log2(base / step))
