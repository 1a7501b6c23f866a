"""Which synapses read the spikes of which neurons."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan


def site_readers(graph: fx.Graph, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Names of the layers that read each site, by the site's node, in the order of the plan.

    Spikes may pass reshapes, transpositions and concatenations on their way.

    Args:
        graph: the canonical graph.
        plan: its plan.
    """
    nodes, sites = {node.name: node for node in graph.nodes}, {site.node for site in plan.sites}
    found: dict[str, dict[str, None]] = {}
    for item in plan.synapses:
        for source in (item.source, item.held):
            for site in () if source is None else _sites_behind(nodes[source], sites):
                found.setdefault(site, {})[item.layer] = None
    return {site: tuple(layers) for site, layers in found.items()}


def _sites_behind(node: fx.Node, sites: Collection[str]) -> list[str]:
    if node.name in sites:
        return [node.name]
    moved = node.args[:1] if kind_of(node) is OpKind.LAYOUT else node.all_input_nodes
    return [site for source in moved if isinstance(source, fx.Node) for site in _sites_behind(source, sites)]
