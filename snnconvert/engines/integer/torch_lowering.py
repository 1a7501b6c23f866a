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
from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.torch_builder import ByteBuilder, operands, reuse_memory
from snnconvert.engines.integer.torch_kernels import Requantization
from snnconvert.engines.integer.torch_proof import (
    Scales,
    exact_scales,
    folded_scales,
    is_float32,
    is_power_of_two,
    sum_is_exact,
)
from snnconvert.engines.integer.torch_shapes import Trace
from snnconvert.engines.integer.torch_twins import (
    ByteSum,
    ByteSynapse,
    FireBytes,
    ReadBytes,
    TableBytes,
)
from snnconvert.engines.stepwise import neuron_layers
from snnconvert.errors import EngineError
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


def check_packed(network: fx.GraphModule) -> None:
    """Refuses neurons whose closed form isn't what they fire.

    Raises:
        EngineError: naming the layer.
    """
    for layer, neuron in neuron_layers(network).values():
        if not isinstance(neuron.code, PackedCode):
            raise EngineError(
                f"{layer}: integer engines run packed neurons, not {neuron.code.name}: run the network without an "
                "engine, or convert it with packed neurons"
            )


def lower_to_bytes(network: fx.GraphModule, traces: Mapping[fx.Node, Trace]) -> ByteNetwork:
    """Writes a packed network with oneDNN's kernels.

    Args:
        network: the spiking graph, on the CPU; it is left as it is.
        traces: shapes and types of its tensors.
    """
    return _Lowering(network, traces).run()


class _Lowering(ByteBuilder):
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
        found = self._convolution_and_rest(node)
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

    def _convolution_and_rest(self, node: fx.Node) -> tuple[fx.Node, Synapse, fx.Node] | None:
        terms = operands(node)
        if len(terms) != 2 or len(node.args) != 2 or node.kwargs or terms[0] is terms[1]:
            return None
        if self.traces[terms[0]] != self.traces[terms[1]]:
            return None
        for current, rest in (terms, terms[::-1]):
            synapse = self.modules.get(current)
            is_convolution = isinstance(synapse, Synapse) and synapse.geometry is not None
            if is_convolution and len(current.users) == 1 and self.runs_on_bytes(current):
                return current, synapse, rest  # type: ignore[return-value]
        return None

    # -- neurons

    def _emit_neuron(self, node: fx.Node) -> None:
        neuron, layer = self.modules[node], str(node.meta.get("layer", node.target))
        assert isinstance(neuron, SpikingNeuron)
        source = node.args[0]
        assert isinstance(source, fx.Node)
        fired = self._fired_at_once(node, neuron, source)
        if fired is None and self.is_read_as_bytes(node):
            fired = self.call(node, "", FireBytes(copy.deepcopy(neuron)), self.value(source))
        if fired is not None:
            self.bytes[node] = fired, neuron.code.offset
            self.fired.append(Fired(layer, node.name, fired.name, neuron.code.offset))
            return
        self.values[node] = self.call(node, "", copy.deepcopy(neuron), self.value(source))
        self.fired.append(Fired(layer, node.name, self.values[node].name, 0))

    def _fired_at_once(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> fx.Node | None:
        """Bytes from the kernel of the synapse, sum or table that only these neurons read; None if they must wait."""
        if len(source.users) != 1:
            return None
        module = self.modules.get(source)
        if isinstance(module, Synapse):
            return self._fired_by_synapse(node, neuron, source, module)
        if isinstance(module, TableTransfer) and neuron.bias is None and neuron.gain.numel() == 1:
            potential = source.args[0]
            assert isinstance(potential, fx.Node)
            return self.call(node, "_table", TableBytes(copy.deepcopy(module), neuron), self.value(potential))
        if source.op != "call_function":
            return None
        kind = kind_of(source)
        if kind is OpKind.ADD:
            return self._fired_by_sum(node, neuron, source)
        return self._fired_and_pooled(node, neuron, source) if kind is OpKind.MAX_POOL else None

    def _fired_by_synapse(
        self, node: fx.Node, neuron: SpikingNeuron, current: fx.Node, synapse: Synapse
    ) -> fx.Node | None:
        if not self.runs_on_bytes(current):
            return None
        scales = folded_scales(synapse, neuron, len(self.traces[current].shape))
        if scales is None:
            return None
        source, zero_point = self.read(current, synapse)
        weights = self.packed(current, synapse, scales, zero_point)
        return self.call(node, "_fire", ByteSynapse(weights, _requantization(neuron)), source)

    def _fired_and_pooled(self, node: fx.Node, neuron: SpikingNeuron, pool: fx.Node) -> fx.Node | None:
        """Firing is monotone: the largest current fires the largest word."""
        source, windows = pool.args[0], self.windows(pool)
        assert isinstance(source, fx.Node)
        synapse = self.modules.get(source)
        if windows is None or not isinstance(synapse, Synapse) or len(source.users) != 1:
            return None
        fired = self._fired_by_synapse(node, neuron, source, synapse)
        return None if fired is None else self.call(node, "_pool", windows, fired)

    def _fired_by_sum(self, node: fx.Node, neuron: SpikingNeuron, total: fx.Node) -> fx.Node | None:
        """g·(m·(W·z + b) + m'·z') of a convolution and words, in the convolution's kernel."""
        found = self._convolution_and_rest(total)
        if found is None or neuron.bias is not None or neuron.gain.numel() != 1 or float(neuron.gain) <= 0:
            return None
        current, synapse, rest = found
        scale = self.modules.get(rest)
        if synapse.wide or not isinstance(scale, IntegerScale) or scale.wide or scale.multiplier.numel() != 1:
            return None
        words, gain = self.bytes.get(operands(rest)[0]), float(neuron.gain)
        factor, scales = float(scale.multiplier) * gain, exact_scales(synapse, gain)
        if words is None or scales is None or not is_float32(factor):
            return None
        # sums that aren't wide are integers up to 2^24, which a power of two scales exactly
        if not (is_power_of_two(gain) and words[1] == 0) and not sum_is_exact(scales, factor, words[1]):
            return None
        source, zero_point = self.read(current, synapse)
        weights = self.packed(current, synapse, scales, zero_point)
        offset = neuron.code.offset
        top = min(neuron.ceiling + offset, LARGEST_BYTE)
        added = ByteSum(weights, Requantization(offset), factor, words[1], top)
        return self.call(node, "_fire", added, source, words[0])


def _requantization(neuron: SpikingNeuron) -> Requantization:
    offset = neuron.code.offset
    is_clipped = neuron.ceiling + offset < LARGEST_BYTE
    return Requantization(offset, (float(-offset), float(neuron.ceiling)) if is_clipped else None)
