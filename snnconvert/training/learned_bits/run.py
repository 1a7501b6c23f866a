"""Runs a canonical graph with weights and values quantized on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from snnconvert.convert.plan import Plan, Site, SynapsePlan

Values = Callable[[Tensor, Site], Tensor]
Parameters = Callable[[fx.Node, SynapsePlan, Tensor], tuple[Tensor, Tensor]]


class QuantizedRun(fx.Interpreter):
    """The canonical graph with other values where neurons sit, and other weights and biases in synapses.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        values: of a value and its site, what the spikes stand for.
        parameters: of a synapse's node, its plan and its weight in the graph, the weight and bias to take.
    """

    def __init__(self, graph_module: fx.GraphModule, plan: Plan, values: Values, parameters: Parameters) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self._values, self._parameters = values, parameters
        self._synapses = {item.node: item for item in plan.synapses}
        sites = [site for site in plan.sites if site.origin != "repeater"]
        self._replaced = {site.node: site for site in sites if site.origin == "activation"}
        self._read = {site.node: site for site in sites if site.origin != "activation"}

    def run_node(self, n: fx.Node) -> Any:
        """One node's value, quantized if neurons sit there or a synapse computes it."""
        if n.name in self._synapses:
            return self._synapse(n, self._synapses[n.name])
        value = super().run_node(n)
        site = self._replaced.get(n.name)
        return value if site is None else self._values(value, site)

    def _synapse(self, node: fx.Node, item: SynapsePlan) -> Any:
        arguments, keywords = self.fetch_args_kwargs_from_env(node)
        given = list(arguments)
        for position, source in enumerate((item.source, item.held)):
            site = None if source is None else self._read.get(source)
            if site is not None:
                given[position] = self._values(given[position], site)
        if item.held is None:
            given[1:3] = self._parameters(node, item, given[1])
        return self.call_function(node.target, tuple(given), keywords)
