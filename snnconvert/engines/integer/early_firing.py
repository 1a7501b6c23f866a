"""Early firing: neurons that read a current through moves fire before the moves, so that bytes are moved, not floats.

fire(move(u)) = move(fire(u)), as neurons without a bias treat every value alike; so do positions of a table's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx, nn

from snnconvert.convert.moves import gains_of_places, readers_behind_moves
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.fired_positions import has_positions
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer

Modules = Mapping[fx.Node, nn.Module]


@dataclass(frozen=True)
class EarlyFiring:
    """Neurons, or a table's positions, that fire at a node which they read through moves.

    Attributes:
        neurons: all that read the node, with one code and one largest word; or a transfer that alone reads it.
        gain: float32, scalar, or [C] of the node's last dimension.
    """

    neurons: tuple[fx.Node, ...]
    gain: Tensor

    @property
    def is_in_steps(self) -> bool:
        """Whether the node is in steps already: its gain is 1 everywhere."""
        return bool((self.gain == 1).all())


def early_firings(network: fx.GraphModule, signature: Signature, dialect: Dialect) -> dict[fx.Node, EarlyFiring]:
    """Finds the nodes that only neurons read, or a transfer, and these through moves that leave out nothing.

    Args:
        network: a packed spiking graph, on the CPU.
        signature: how it is called; where there are such neurons, it is run once on zeros.
        dialect: the runtime's.
    """
    nodes = list(network.graph.nodes)
    modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
    candidates = {node: readers for node in nodes if (readers := _candidates(node, modules, dialect))}
    gains = gains_of_places(network, signature, candidates)
    return {node: EarlyFiring(tuple(candidates[node]), gain) for node, gain in gains.items()}


def _candidates(node: fx.Node, modules: Modules, dialect: Dialect) -> list[fx.Node]:
    """The neurons with one code, or the one transfer, that read a node, at least one of them behind a move."""
    if isinstance(modules.get(node), (SpikingNeuron, TableTransfer)):
        return []
    readers = readers_behind_moves(
        node, lambda user: _fires_alike(modules.get(user)) or _has_alike_positions(user, modules, dialect)
    )
    if any(isinstance(modules[reader], TableTransfer) for reader in readers):
        return readers if len(readers) == 1 and _is_weighed(node, modules) else []
    neurons = [modules[reader] for reader in readers]
    stored = {(neuron.code.offset, neuron.ceiling) for neuron in neurons if isinstance(neuron, SpikingNeuron)}
    return readers if len(stored) == 1 else []


def _is_weighed(node: fx.Node, modules: Modules) -> bool:
    """Whether a node is a synapse's current, or what that is worth."""
    source = node.args[0] if isinstance(modules.get(node), ToReal) else node
    return isinstance(source, fx.Node) and isinstance(modules.get(source), Synapse)


def _fires_alike(module: nn.Module | None) -> bool:
    """Whether a module is packed neurons that treat every value alike."""
    return isinstance(module, SpikingNeuron) and isinstance(module.code, PackedCode) and module.is_uniform


def _has_alike_positions(node: fx.Node, modules: Modules, dialect: Dialect) -> bool:
    """Whether a node is a transfer whose positions are bytes, and the same of every value."""
    transfer = modules.get(node)
    return isinstance(transfer, TableTransfer) and transfer.gain.numel() == 1 and has_positions(node, modules, dialect)
