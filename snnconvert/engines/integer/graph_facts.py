"""What the lowering asks of a spiking graph: what neurons read, how words are stored, where gains went."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.early_firing import EarlyFiring
from snnconvert.engines.integer.fired_positions import fires_from_table, fires_positions
from snnconvert.engines.integer.folding import fold_gains
from snnconvert.engines.integer.joined_words import JoinedWords
from snnconvert.engines.integer.rectifiers import rectifiers_of
from snnconvert.engines.integer.twins import MIDDLE, Bytes
from snnconvert.engines.integer.word_sums import WordSums, is_sum
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

_ONE = torch.ones(())


class GraphFacts:
    """A packed spiking graph, as a runtime's dialect sees it; nothing of it changes.

    Attributes:
        modules: its modules by node.
        fired_early: neurons, and transfers' positions, that fire before what they read is moved.
        joined: words that are joined or moved as bytes.
        rectifiers: leaky transfers that kernels calculate.
        folds: where gains went.
        sums: the sums that may be of words.
    """

    def __init__(
        self, network: fx.GraphModule, dialect: Dialect, early: Mapping[fx.Node, EarlyFiring], joined: JoinedWords
    ) -> None:
        """Finds them.

        Args:
            network: the spiking graph, on the CPU.
            dialect: the runtime's.
            early: neurons that fire before what they read is moved, by the node it is moved from.
            joined: words that concats join as bytes.
        """
        self._dialect, self._early = dialect, early
        self.joined = joined
        self.fired_early = {neuron for firing in early.values() for neuron in firing.neurons}
        self.modules: dict[fx.Node, nn.Module] = {
            node: network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"
        }
        self.rectifiers = rectifiers_of(network.graph, self.modules, dialect)
        self.folds = fold_gains(network.graph, self.modules, dialect, self.rectifiers.slopes, early)
        self.sums = WordSums(network.graph, self.modules, self.has_zero_point, folds_sums=dialect.folds_sums)

    def fires_in_kernel(self, node: fx.Node) -> bool:
        """Whether all that reads a synapse are neurons that its kernel can fire."""
        if len(node.users) != 1:
            return False
        reader = next(iter(node.users))
        if self.is_pooled_later(reader):
            reader = next(iter(reader.users))
        if isinstance(self.modules.get(reader), ToReal):
            return reader in self.folds.readers and reader in self._early and self._early[reader].is_in_steps
        if self.reads_positions(reader):
            return True
        return reader in self.folds.readers and isinstance(self.modules[reader], SpikingNeuron)

    def reads_positions(self, transfer: fx.Node) -> bool:
        """Whether neurons fire from a table whose positions are bytes that a synapse's kernel fires."""
        if transfer in self.fired_early:
            return True
        return transfer in self.folds.readers and fires_positions(transfer, self.modules, self._dialect)

    def has_zero_point(self, node: fx.Node) -> bool:
        """Whether a neuron's bytes have a zero point other than 0."""
        neuron = self.modules[node]
        assert isinstance(neuron, SpikingNeuron)
        stored = self.early_bytes(neuron) if node in self.fired_early else self.stored_bytes(node, neuron)
        return int(stored.zero_point) != 0

    def is_logarithmic(self, node: fx.Node) -> bool:
        """Whether a node is logarithmic words, moved or not."""
        module = self.modules.get(node)
        if isinstance(module, SpikingNeuron):
            return isinstance(module.code, LogarithmicCode)
        return node.op == "call_function" and any(map(self.is_logarithmic, node.all_input_nodes))

    def multiplies_weights(self, node: fx.Node) -> bool:
        """Whether onnxruntime would multiply a convolution's weights, floating point there, by a scale behind it."""
        return self._dialect.folds_weights and self.convolves(node) and len(node.users) == 1

    def adds_whole(self, node: fx.Node) -> bool:
        """Whether a node is integers that were multiplied or added up: OpenVINO would work a scale into them."""
        return self._is_whole(node) and self._adds(node)

    def _adds(self, node: fx.Node) -> bool:
        """Whether a node is multiplied or added up from others, moved or not."""
        if node in self.modules:
            return not isinstance(self.modules[node], SpikingNeuron)
        return is_sum(node) or any(map(self._adds, self._values_of(node)))

    def _is_whole(self, node: fx.Node) -> bool:
        """Whether a node is integers, moved or added up or not, that no gain was worked into."""
        module = self.modules.get(node)
        if isinstance(module, Synapse | IntegerScale | SumPool | Product | SpikingNeuron):
            return bool((self.factor(node) == 1).all())
        sources = self._values_of(node)
        return node.op == "call_function" and bool(sources) and all(map(self._is_whole, sources))

    def _values_of(self, node: fx.Node) -> list[fx.Node]:
        """What a node adds up or moves, without the sizes it reads."""
        return [each for each in node.all_input_nodes if each in self.modules or kind_of(each) is not OpKind.SHAPE]

    def stays_float(self, node: fx.Node, stored: Bytes) -> bool:
        """Whether words that only sums read stay floats: OpenVINO subtracts zero points in kernels of their own."""
        return not self._dialect.folds_sums and int(stored.zero_point) != 0 and self.sums.only_joins(node)

    def convolves(self, node: fx.Node) -> bool:
        """Whether a node is a convolution, not a linear layer."""
        synapse = self.modules.get(node)
        return isinstance(synapse, Synapse) and synapse.geometry is not None

    def has_bias(self, node: fx.Node) -> bool:
        """Whether a node is a synapse that adds something: OpenVINO works the scale of others into its rounding."""
        synapse = self.modules.get(node)
        return isinstance(synapse, Synapse) and bool(synapse.bias.any() or self.bias_of_readers(node).any())

    def bias_of_readers(self, node: fx.Node) -> Tensor:
        """The bias of the neurons that read a synapse, in counts of its accumulator, int32."""
        return self.folds.biases.get(node, torch.zeros(())).to(torch.int32)

    def stored_bytes(self, node: fx.Node, neuron: SpikingNeuron) -> Bytes:
        """How the words of neurons are stored that fire where they are."""
        if node in self.joined.signed:
            return Bytes(neuron.code.offset, neuron.ceiling, signed=self.joined.signed[node])
        held = any(isinstance(self.modules.get(user), Product) and user.args[1] is node for user in node.users)
        biased = self._dialect.biased_bytes and neuron.code.offset != MIDDLE and self._is_convolved(node)
        return self._bytes_of(neuron, signed=held or (self._dialect.signed_words and not biased))

    def _is_convolved(self, node: fx.Node) -> bool:
        """Whether convolutions read some words, and nothing else does: OpenVINO would move the zero point about."""
        return all(map(self.convolves, node.users))

    @staticmethod
    def _bytes_of(neuron: SpikingNeuron, *, signed: bool) -> Bytes:
        """How a neuron's words are stored, those with a sign as signed bytes or not."""
        offset = neuron.code.offset
        return Bytes(offset, neuron.ceiling, signed=signed and offset > 0)

    def early_bytes(self, neuron: SpikingNeuron) -> Bytes:
        """How the words of neurons are stored that fire before what they read is moved."""
        return self._bytes_of(neuron, signed=self._dialect.signed_words)

    def fires_from_table(self, transfer: fx.Node) -> bool:
        """Whether one layer of neurons reads a transfer, all with one gain: their words are its table."""
        return fires_from_table(transfer, self.modules)

    def breaks_ties_evenly(self, node: fx.Node) -> bool:
        """Whether the zero points of all neurons that read a node, moved or not, are even.

        A kernel that adds an odd one before it rounds half to even rounds such words the other way.
        """
        for user in node.users:
            module = self.modules.get(user)
            if isinstance(module, SpikingNeuron) and module.code.offset % 2:
                return False
            if user.op == "call_function" and not self.breaks_ties_evenly(user):
                return False
        return True

    def factor(self, node: fx.Node) -> Tensor:
        """What a source's output is multiplied by, for neurons whose gain it has taken over."""
        return self.folds.factors.get(node, _ONE)

    def is_pooled_later(self, node: fx.Node) -> bool:
        """Whether a max-pool of currents can as well be one of the words that neurons behind it fire."""
        if node.op != "call_function" or kind_of(node) is not OpKind.MAX_POOL or len(node.users) != 1:
            return False
        neuron = self.modules.get(next(iter(node.users)))
        if not isinstance(neuron, SpikingNeuron) or neuron.bias is not None or not bool((neuron.gain > 0).all()):
            return False
        if not isinstance(neuron.code, PackedCode):
            return False
        return not isinstance(self.modules.get(argument_of(node)), SpikingNeuron)


def argument_of(node: fx.Node) -> fx.Node:
    """The node that a node reads first."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def layer_of(node: fx.Node) -> str:
    """The layer's own name of a node."""
    return str(node.meta.get("layer", node.target))
