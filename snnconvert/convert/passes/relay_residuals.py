"""Neurons on the branches of residual sums, so that spikes meet there instead of wide integer currents.

x + y becomes relay(x) + relay(y) where x and y are currents, and x·f(mean(x)) relay(x)·f(mean(relay(x))). Equal to the
network; the relays are where conversion then puts neurons.
"""

from __future__ import annotations

from torch import fx

from snnconvert.convert.flow import Carrier, infer_flows
from snnconvert.convert.graph_tools import tidy
from snnconvert.convert.names import LAYER, layer_name
from snnconvert.convert.ops import OpKind, kind_of, relay
from snnconvert.convert.plan import Plan


def relay_residuals(graph_module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """Puts a relay, named "….branch", behind every current that enters a sum and that synapses read later.

    So it does behind currents that average pools read and that have neurons anyway, as a product reads their spikes.
    Everything that reads such a current reads its relay, too: a sum of sums takes the spikes that the next layer takes.

    Args:
        graph_module: the canonical graph; changed in place.
        plan: its plan, which says where currents flow.
    """
    graph = graph_module.graph
    activations = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    synapses = frozenset(item.node for item in plan.synapses)
    flows = infer_flows(graph, activations, synapses)
    feeding = _feeding(graph, synapses)
    for node in list(graph.nodes):
        if kind_of(node) is OpKind.ADD and node.name in feeding and flows[node.name].carrier is Carrier.CURRENT:
            for operand in node.all_input_nodes:
                if flows[operand.name].carrier is Carrier.CURRENT:
                    _relay(graph, operand)
    fired = {site.node for site in plan.sites if site.origin == "inserted"}
    for node in list(graph.nodes):
        is_averaged = any(kind_of(user) is OpKind.AVERAGE_POOL for user in node.users)
        if node.name in fired and is_averaged and flows[node.name].carrier is Carrier.CURRENT:
            _relay(graph, node)
    return tidy(graph_module)


def _feeding(graph: fx.Graph, synapses: frozenset[str]) -> set[str]:
    """Names of the nodes that some synapse depends on."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if any(user.name in synapses or user.name in found for user in node.users):
            found.add(node.name)
    return found


def _relay(graph: fx.Graph, current: fx.Node) -> None:
    if any(kind_of(user) is OpKind.RELAY for user in current.users):
        return
    readers = list(current.users)
    with graph.inserting_after(current):
        node = graph.call_function(relay, (current,))
    node.meta = {**current.meta, LAYER: f"{layer_name(current)}.branch"}
    for reader in readers:
        reader.replace_input_with(current, node)
