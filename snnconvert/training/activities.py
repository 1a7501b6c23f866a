"""How busy the spikes are that each layer of a spiking network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.reconstruction.blocks import source_of
from snnconvert.calibration.statistics.histogram import fixed_subset
from snnconvert.engines.stepwise import is_exact, simulate
from snnconvert.neurons.activity import Activity, activity_of_trains, activity_of_words
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.word import WordCode


def measure_activities(network: fx.GraphModule, sample: Sequence[Tensor]) -> dict[str, Activity]:
    """Activity of what each synapse and product reads, by its node in the ANN's graph.

    Packed where that is exact, else step by step; on a fixed subset of the neurons.

    Args:
        network: the spiking graph.
        sample: the tensors of one call.
    """
    codes = _codes(network)
    with torch.no_grad():
        if is_exact(network):
            run = _PackedRun(network, codes)
            run.run(*sample)
            return run.activities
        watcher = _Watcher(codes)
        simulate(network, [tuple(sample)], watcher=watcher)
        return watcher.activities


def read_neurons(node: fx.Node) -> SpikingNeuron | None:
    """The neurons whose spikes a synapse reads, the first of several."""
    network = node.graph.owning_module
    assert network is not None
    source = node.all_input_nodes[0]
    while True:
        if source.op == "call_module":
            module = network.get_submodule(str(source.target))
            return module if isinstance(module, SpikingNeuron) else None
        if not source.all_input_nodes:
            return None
        source = source.all_input_nodes[0]


def _codes(network: fx.GraphModule) -> dict[str, SpikeCode]:
    found: dict[str, SpikeCode] = {}
    for node in network.graph.nodes:
        if node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), (Synapse, Product)):
            neurons = read_neurons(node)
            if neurons is not None:
                found[source_of(node)] = neurons.code
    return found


class _PackedRun(fx.Interpreter):
    """Runs a network packed and looks at what its synapses read."""

    def __init__(self, network: fx.GraphModule, codes: Mapping[str, SpikeCode]) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self._codes = codes
        self.activities: dict[str, Activity] = {}

    def run_node(self, n: fx.Node) -> Any:
        code = self._codes.get(source_of(n)) if n.op == "call_module" else None
        if isinstance(code, WordCode) and isinstance(self.fetch_attr(str(n.target)), (Synapse, Product)):
            words = self.env[n.all_input_nodes[0]]
            self.activities[source_of(n)] = activity_of_words(fixed_subset(words.flatten(1)), code)
        return super().run_node(n)


class _Watcher:
    """Looks at what the synapses of a network that runs in time read."""

    def __init__(self, codes: Mapping[str, SpikeCode]) -> None:
        self._codes = codes
        self.activities: dict[str, Activity] = {}

    def integrated(self, source: str, synapse: Synapse, spikes: list[Tensor], current: Tensor) -> None:
        """Looks at one synapse's spikes."""
        del synapse, current
        self._take(source, spikes)

    def multiplied(self, source: str, product: Product, spikes: list[Tensor], current: Tensor) -> None:
        """Looks at one product's spikes."""
        del product, current
        self._take(source, spikes)

    def _take(self, source: str, spikes: list[Tensor]) -> None:
        trains = torch.stack([fixed_subset(step.flatten(1)) for step in spikes])
        self.activities[source] = activity_of_trains(trains, self._codes[source].spike_bits)
