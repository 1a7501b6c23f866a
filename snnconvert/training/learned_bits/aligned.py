"""Steps of neurons behind others on one membrane, while they are learned."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan

_NEARLY = 1e-3


def followers(graph: fx.Graph, plan: Plan) -> dict[int, int]:
    """The family of the first neurons on the potential of each family of rectifying neurons that comes behind them.

    The same families as :func:`~snnconvert.aligned_steps.aligned_steps` aligns.
    """
    alone = Counter(site.family for site in plan.sites)
    families = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    first: dict[fx.Node, int] = {}
    found: dict[int, int] = {}
    for node in graph.nodes:
        if node.name in families and kind_of(node) is OpKind.RECTIFIER:
            family, potential = families[node.name], node.all_input_nodes[0]
            if potential in first and alone[family] == 1:
                found[family] = first[potential]
            first.setdefault(potential, family)
    return found


def aligned(step: Tensor, base: Tensor) -> Tensor:
    """Δ₁·2^−⌊log2(Δ₁/Δ)⌋ with the gradient of Δ: the smallest power of two times Δ₁ not below Δ by 0.1 %."""
    with torch.no_grad():
        exact = base * torch.exp2(-torch.floor(torch.log2(base / step) + _NEARLY))
        ratio = exact / step
    return step * ratio
