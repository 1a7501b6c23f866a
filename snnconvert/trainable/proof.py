"""The proof that sums of currents are exact, renewed from a spiking graph's integers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.current import IntegerScale, SumPool
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse


def prove_sums(network: fx.GraphModule, trial: Sequence[Tensor]) -> None:
    """Sums in float64 the currents whose sum may pass 2^24.

    Args:
        network: the spiking graph.
        trial: the tensors of one call, for the sizes of pools.
    """
    bounds = _Bounds(network)
    with torch.no_grad():
        bounds.run(*trial)
    for node in bounds.inexact:
        _widen(node, network)


class _Bounds(fx.Interpreter):
    """Runs a graph and bounds |counts| of every node that carries spikes or currents."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network, garbage_collect_values=False)
        self.extra_traceback = False
        self.bounds: dict[fx.Node, float] = {}
        self.inexact: list[fx.Node] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        sources = [source for source in n.all_input_nodes if isinstance(self.env[source], Tensor)]
        inputs = [self.bounds[source] for source in sources if source in self.bounds]
        bound = self._bound(n, inputs if len(inputs) == len(sources) else [])
        if bound is not None:
            self.bounds[n] = bound
            if n.op == "call_function" and kind_of(n) is OpKind.ADD and bound > FLOAT32_EXACT:
                self.inexact.append(n)
        return value

    def _bound(self, node: fx.Node, inputs: list[float]) -> float | None:
        if node.op == "call_module":
            return self._bound_of_module(node, inputs)
        if node.op != "call_function" or not inputs:
            return None
        return sum(inputs) if kind_of(node) is OpKind.ADD else max(inputs)

    def _bound_of_module(self, node: fx.Node, inputs: list[float]) -> float | None:
        module = self.fetch_attr(str(node.target))
        if isinstance(module, Synapse):
            return float(module.bound().max())
        if isinstance(module, SpikingNeuron):
            low, high = module.code.extremes
            return float(max(-low, high))
        if isinstance(module, Product):
            return float(module.bound)
        if isinstance(module, IntegerScale) and inputs:
            return inputs[0] * float(module.multiplier.abs().max())
        if isinstance(module, SumPool) and inputs:
            geometry, before = module.geometry, self.env[node.all_input_nodes[0]].shape
            window = math.prod(before[dim] for dim in geometry.dims) if geometry.dims else math.prod(geometry.kernel)
            return inputs[0] * window * float(module.multiplier.abs().max())
        return None


def _widen(node: fx.Node, network: fx.GraphModule) -> None:
    """Makes all that adds up in a sum return float64."""
    for source in node.all_input_nodes:
        if source.op == "call_function":
            _widen(source, network)
        if source.op != "call_module":
            continue
        module = network.get_submodule(str(source.target))
        if isinstance(module, Synapse) and not module.wide:
            module.wide = True
            module.prepare()
        elif isinstance(module, (IntegerScale, SumPool, Product)):
            module.wide = True
