"""The tables that sites on functions fire from, known before units are chosen: gains count in their grids."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from snnconvert.convert.channels import Steps
from snnconvert.convert.elementwise import function_of
from snnconvert.convert.ops import OpKind, is_leaky, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.convert.quantizers import grid_of, linear_head
from snnconvert.neurons.byte_tables import Potentials, byte_table
from snnconvert.neurons.tabulation import FunctionTable, tabulate
from snnconvert.neurons.threshold import Threshold


def function_tables(
    graph: fx.Graph,
    plan: Plan,
    thresholds: Mapping[int, Threshold],
    steps: Steps,
    potentials: Mapping[str, Potentials],
) -> dict[str, FunctionTable]:
    """The table of each site whose neurons fire on a function that has no closed form here, by node name.

    Args:
        graph: the canonical graph.
        plan: its plan.
        thresholds: threshold of each family of sites.
        steps: of the spikes.
        potentials: what was seen of the potentials of sites whose grid has 256 of them, by node name.
    """
    sites = {site.node: site for site in plan.sites if site.origin == "activation"}
    tables: dict[str, FunctionTable] = {}
    for node in graph.nodes:
        site = sites.get(node.name)
        if site is None or kind_of(node) is not OpKind.FUNCTION or is_leaky(node):
            continue
        threshold, function = thresholds[site.family], function_of(node)
        if function is not None and head_of_neurons(node, threshold) is None:
            own = steps.at(site.node, site.family)
            finest = float(own.min())
            told = function, finest, threshold.code, float(own.max()) / finest
            seen = potentials.get(node.name)
            tables[node.name] = tabulate(*told) if seen is None else byte_table(*told, seen)
    return tables


def function_sites(graph: fx.Graph, plan: Plan) -> dict[str, str]:
    """The node each site on a function reads, by the site's node name."""
    activations = {site.node for site in plan.sites if site.origin == "activation"}
    nodes = [node for node in graph.nodes if node.name in activations and kind_of(node) is OpKind.FUNCTION]
    return {node.name: node.all_input_nodes[0].name for node in nodes if not is_leaky(node)}


def head_of_neurons(node: fx.Node, threshold: Threshold) -> tuple[float, float] | None:
    """Scale and shift in front of a quantizer whose steps are the neurons' own; None of any other function."""
    grid = grid_of(node)
    return linear_head(node) if grid is not None and grid.step == threshold.step else None
