"""Real numbers in neurons' own steps: a current that only neurons read, moved, is multiplied once, not twice.

A neuron's u = g·(u_c·c) of counts c, with u_c what a count of a channel is worth, is (g·u_c)·c of gain 1: g·u_c
is a scale of the synapse, whose kernel can fire.
"""

from __future__ import annotations

import copy

from torch import fx, nn

from snnconvert.convert.moves import gains_of_places, readers_behind_moves
from snnconvert.convert.signature import Signature
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import TableTransfer


def read_in_steps(network: fx.GraphModule, signature: Signature) -> fx.GraphModule:
    """The same network, up to the rounding of one product, with gains of 1 behind moves.

    Args:
        network: a spiking graph; it is left as it is, and all other modules are shared with it.
        signature: how it is called; where there are such neurons, it is run once on zeros.
    """
    nodes = list(network.graph.nodes)
    modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
    readers = {
        node: found
        for node, module in modules.items()
        if isinstance(module, ToReal)
        and (found := readers_behind_moves(node, lambda user: _treats_alike(modules.get(user))))
    }
    gains = gains_of_places(network, signature, readers)
    if not gains:
        return network
    steps = fx.GraphModule(network, copy.deepcopy(network.graph))
    for node, gain in gains.items():
        real = modules[node]
        assert isinstance(real, ToReal)
        steps.set_submodule(str(node.target), ToReal(real.unit * gain.double()))
        for reader in readers[node]:
            scaled = copy.deepcopy(modules[reader])
            scaled.gain = scaled.get_buffer("gain").new_ones(())
            steps.set_submodule(str(reader.target), scaled)
    return steps


def _treats_alike(module: nn.Module | None) -> bool:
    """Whether a module has one gain for all that it reads, and nothing that it adds."""
    if isinstance(module, SpikingNeuron):
        return module.is_uniform
    return isinstance(module, TableTransfer) and module.gain.numel() == 1
