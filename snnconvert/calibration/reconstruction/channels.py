"""Where the neurons of a block can have gains of their own in each channel."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from snnconvert.calibration.reconstruction.blocks import Block, source_of
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.current import SumPool
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

_CARRYING = frozenset({OpKind.ADD, OpKind.CONCAT, OpKind.MAX_POOL})
_PASSING = frozenset({OpKind.LAYOUT, OpKind.MAX_POOL})


def channel_shapes(network: fx.GraphModule, block: Block, sources: Mapping[str, fx.Node]) -> dict[str, tuple[int, ...]]:
    """Shapes [1, C, 1, ...] of one number a channel for neurons that can have gains of their own, by module name.

    They read a synapse's current, alone, pooled or in sums, and a synapse or a pool reads them: what neurons on
    shortcuts fire is added as it is.

    Args:
        network: the spiking graph.
        block: the block.
        sources: nodes of the ANN's graph by name.
    """
    found: dict[str, tuple[int, ...]] = {}
    for node in block.nodes:
        if node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), SpikingNeuron):
            axis = _channel_axis(network, node.all_input_nodes[0], sources)
            sizes = sources[source_of(node)].meta["val"].shape
            if axis is not None and isinstance(sizes[axis], int) and _is_read(network, node):
                found[str(node.target)] = tuple(sizes[axis] if dim == axis else 1 for dim in range(len(sizes)))
    return found


def _channel_axis(network: fx.GraphModule, node: fx.Node, sources: Mapping[str, fx.Node]) -> int | None:
    """The axis of the channels of a synapse's current, None where it is none."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if isinstance(module, Synapse):
            dims = int(sources[source_of(node)].meta["val"].dim())
            return module.channel_axis(dims) % dims
        if not isinstance(module, (LeakyTransfer, TableTransfer, SumPool, SpikingNeuron)):
            return None
        axis = _channel_axis(network, node.all_input_nodes[0], sources)
        summed = module.geometry.dims if isinstance(module, SumPool) else ()
        return axis if axis is not None and all(dim > axis for dim in summed) else None
    if node.op != "call_function" or kind_of(node) not in _CARRYING:
        return None
    axes = (_channel_axis(network, operand, sources) for operand in node.all_input_nodes)
    return next((axis for axis in axes if axis is not None), None)


def _is_read(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a synapse or a pool reads the spikes of a node."""
    for user in node.users:
        if user.op == "call_module":
            if isinstance(network.get_submodule(str(user.target)), (Synapse, SumPool)):
                return True
        elif user.op == "call_function" and kind_of(user) in _PASSING and _is_read(network, user):
            return True
    return False
