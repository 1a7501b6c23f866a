"""Lowering for torch: the spiking graph with bytes between its neurons and synapses.

Where neurons read one synapse, its kernel fires them; sums of currents are added up in the kernel of one of them.
Everything is proven to fire the packed network's words; what isn't runs as it does there, in floating point.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.torch_builder import operands, reuse_memory
from snnconvert.engines.integer.torch_firing import FiringBuilder
from snnconvert.engines.integer.torch_proof import (
    Scales,
    exact_scales,
)
from snnconvert.engines.integer.torch_twins import (
    ByteSum,
    ByteSynapse,
    FireBytes,
    ReadBytes,
)
from snnconvert.engines.integer.traces import Trace
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse
from snnconvert.neurons.transfer import TableTransfer

_DEFERRED = (Synapse, IntegerScale, TableTransfer)


@dataclass(frozen=True)
class Fired:
    """A layer's bytes in a lowered graph.

    Attributes:
        layer: the layer's name.
        node: the spiking graph's node.
        name: the lowered graph's node that holds bytes or, where nobody reads bytes, words.
        zero_point: what to subtract to get words.
    """

    layer: str
    node: str
    name: str
    zero_point: int


@dataclass(frozen=True)
class ByteNetwork:
    """A lowered network.

    Attributes:
        graph: takes and returns what the spiking graph does.
        fired: its layers of neurons, in their order.
    """

    graph: fx.GraphModule
    fired: tuple[Fired, ...]


def lower_to_bytes(network: fx.GraphModule, traces: Mapping[fx.Node, Trace]) -> ByteNetwork:
    """Writes a packed network with oneDNN's kernels.

    Args:
        network: the spiking graph, on the CPU; it is left as it is.
        traces: shapes and types of its tensors.
    """
    return _Lowering(network, traces).run()


class _Lowering(FiringBuilder):
    def __init__(self, network: fx.GraphModule, traces: Mapping[fx.Node, Trace]) -> None:
        super().__init__(network, traces)
        self.fired: list[Fired] = []

    def run(self) -> ByteNetwork:
        for node in self.old.graph.nodes:
            if node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self.value))
            elif isinstance(self.modules.get(node), SpikingNeuron):
                self._emit_neuron(node)
            elif not self._is_deferred(node):
                self.value(node)
        whole = fx.GraphModule(self.root, self.graph)
        whole.graph.eliminate_dead_code()
        kept = {node.name for node in whole.graph.nodes}
        used = {str(node.target) for node in whole.graph.nodes if node.op in ("get_attr", "call_module")}
        lowered = fx.GraphModule({name: item for name, item in self.root.items() if name in used}, whole.graph).eval()
        lowered.graph.lint()
        reuse_memory(lowered)
        return ByteNetwork(lowered, tuple(layer for layer in self.fired if layer.name in kept))

    def _is_deferred(self, node: fx.Node) -> bool:
        """Whether a node's only reader may compute it along with its own."""
        if len(node.users) != 1:
            return False
        if node.op == "call_function":
            return kind_of(node) in (OpKind.ADD, OpKind.MAX_POOL)
        return isinstance(self.modules.get(node), _DEFERRED)

    # -- values as the packed network has them

    def value(self, node: fx.Node) -> fx.Node:
        """A node's floating-point value in the new graph."""
        if node not in self.values:
            self.values[node] = self._emit_value(node)
        return self.values[node]

    def _emit_value(self, node: fx.Node) -> fx.Node:
        module = self.modules.get(node)
        if isinstance(module, SpikingNeuron):
            stored = self.bytes[node]
            assert stored is not None
            return self.call(node, "_read", ReadBytes(stored[1]), stored[0])
        if module is not None:
            current = self._current(node, module) if isinstance(module, Synapse) else None
            if current is not None:
                return current
            return self.call(node, "", copy.deepcopy(module), *(self.value(arg) for arg in operands(node)))
        if node.op == "get_attr":
            self.root[str(node.target)] = getattr(self.old, str(node.target))
        elif node.op == "call_function":
            kind = kind_of(node)
            if kind is OpKind.SHAPE:
                return self.graph.node_copy(node, self.anything)
            summed = self._summed(node) if kind is OpKind.ADD else None
            if summed is not None:
                return summed
        return self.graph.node_copy(node, self.value)

    def _current(self, node: fx.Node, synapse: Synapse) -> fx.Node | None:
        """A synapse's integer currents in the ANN's sums, from an integer kernel; None if it can't."""
        if not self.runs_on_bytes(node):
            return None
        bound = synapse.bound()
        if float((bound / synapse.multiplier).max()) > FLOAT32_EXACT:
            return None
        scales, outside = exact_scales(synapse, 1.0), None
        if float(bound.max()) > FLOAT32_EXACT:
            scales = Scales(torch.ones(len(bound)), synapse.bias.float())
            outside = synapse.channelwise(synapse.multiplier.double(), len(self.traces[node].shape))
        if scales is None:
            return None
        source, zero_point = self.read(node, synapse)
        weights = self.packed(node, synapse, scales, zero_point)
        return self.call(node, "", ByteSynapse(weights, None, wide=synapse.wide, multiplier=outside), source)

    def _summed(self, node: fx.Node) -> fx.Node | None:
        """A sum of currents in float32, added up in the kernel of a convolution that nobody else reads."""
        found = self.convolution_and_rest(node)
        if found is None or self.traces[node].dtype != torch.float32:
            return None
        current, synapse, rest = found
        scales = exact_scales(synapse, 1.0)
        if synapse.wide or float(synapse.bound().max()) > FLOAT32_EXACT or scales is None:
            return None
        total = self.value(rest)
        source, zero_point = self.read(current, synapse)
        weights = self.packed(current, synapse, scales, zero_point)
        return self.call(current, "_sum", ByteSum(weights, None), source, total)

    # -- neurons

    def _emit_neuron(self, node: fx.Node) -> None:
        neuron, layer = self.modules[node], str(node.meta.get("layer", node.target))
        assert isinstance(neuron, SpikingNeuron)
        source = node.args[0]
        assert isinstance(source, fx.Node)
        fired = self.fired_at_once(node, neuron, source)
        if fired is None and isinstance(neuron.code, PackedCode) and self.is_read_as_bytes(node):
            fired = self.call(node, "", FireBytes(copy.deepcopy(neuron)), self.value(source))
        if fired is not None:
            self.bytes[node] = fired, neuron.code.offset
            self.fired.append(Fired(layer, node.name, fired.name, neuron.code.offset))
            return
        self.values[node] = self.call(node, "", copy.deepcopy(neuron), self.value(source))
        self.fired.append(Fired(layer, node.name, self.values[node].name, 0))
