"""Lowering: the spiking graph as a graph of ONNX twins, ready for export.

Equal to the packed network: words are the same integers, currents are integers times a scale that float32 holds
exactly. What is analog stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.aligned_sums import is_short
from snnconvert.engines.integer.block_twins import BlockSynapse, ToPixels
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.early_firing import EarlyFiring
from snnconvert.engines.integer.emission import Emission
from snnconvert.engines.integer.fired_apart import PART, WORDS_OF
from snnconvert.engines.integer.fired_positions import position_bytes
from snnconvert.engines.integer.graph_facts import GraphFacts, argument_of, layer_of
from snnconvert.engines.integer.joined_words import Carried, JoinedWords
from snnconvert.engines.integer.logarithmic_twins import SplitForm
from snnconvert.engines.integer.neuron_lowering import NeuronLowering, too_large
from snnconvert.engines.integer.pixel_blocks import PixelBlocks
from snnconvert.engines.integer.twins import (
    BilinearForm,
    IntegerSynapse,
    ReadCarried,
    Rectified,
    Scaled,
    Whole,
    WindowSum,
)
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

_ONE = torch.ones(())


@dataclass(frozen=True)
class StoredWords:
    """Words that an observed graph returns beside its outputs.

    Attributes:
        layer: the layer's name.
        node: the spiking graph's node.
        zero_point: what to subtract from a byte to get the word; 0 of logarithmic words, which are values, float32.
    """

    layer: str
    node: str
    zero_point: int


@dataclass(frozen=True)
class LoweredNetwork:
    """A graph of twins.

    Attributes:
        graph: takes and returns what the spiking graph does; observed, also the bytes of every layer of neurons.
        words: those layers, in the order in which they are returned; empty if not observed.
    """

    graph: fx.GraphModule
    words: tuple[StoredWords, ...] = ()


def lower(
    network: fx.GraphModule,
    dialect: Dialect,
    shapes: Mapping[str, tuple[int | None, ...]],
    early: Mapping[fx.Node, EarlyFiring],
    blocks: Mapping[fx.Node, PixelBlocks],
    joined: JoinedWords,
    *,
    observed: bool = False,
) -> LoweredNetwork:
    """Writes a packed network in a runtime's dialect.

    Args:
        network: the spiking graph, on the CPU; it is left as it is.
        dialect: the runtime's.
        shapes: of what each window sum reads, by node name; None for sizes that may be others.
        early: neurons that fire before what they read is moved, by the node it is moved from.
        blocks: synapses that read blocks of pixels, if their kernels fire.
        joined: words that concats join as bytes.
        observed: whether to return the bytes of every layer of neurons, too.

    Raises:
        EngineError: naming the layer, if its logarithmic words, or sums of their products, are beyond float32.
    """
    return _Lowering(network, dialect, shapes, early, blocks, joined).run(observed=observed)


class _Lowering:
    def __init__(
        self,
        network: fx.GraphModule,
        dialect: Dialect,
        shapes: Mapping[str, tuple[int | None, ...]],
        early: Mapping[fx.Node, EarlyFiring],
        blocks: Mapping[fx.Node, PixelBlocks],
        joined: JoinedWords,
    ) -> None:
        self.old, self.dialect, self.shapes, self.early, self.joined = network, dialect, shapes, early, joined
        self.facts = GraphFacts(network, dialect, early, joined)
        self.modules, self.folds, self.sums = self.facts.modules, self.facts.folds, self.facts.sums
        self.rectifiers = self.facts.rectifiers
        self.in_sides = {each for transfer in self.rectifiers.sides.values() for each in (transfer, *transfer.args)}
        self.blocks = {node: each for node, each in blocks.items() if self.facts.fires_in_kernel(node)}
        self.in_blocks = {argument_of(node): each for node, each in self.blocks.items()}
        reads_sizes = any(_reads_size(node) for node in network.graph.nodes)
        self.made = Emission(dialect, self.facts)
        self.neurons = NeuronLowering(self.made, shapes, self.in_blocks, reads_sizes=reads_sizes)

    def run(self, *, observed: bool) -> LoweredNetwork:
        stored: list[StoredWords] = []
        for node in self.old.graph.nodes:
            if node.op == "output":
                layers = [source for source in self.made.fired if PART not in source.meta] if observed else []
                stored = [self._stored(source) for source in layers]
                self._emit_output(node, [self._observed(source) for source in layers])
            elif node.op == "call_module":
                self._emit_module(node, self.modules[node])
            elif node.op == "get_attr":
                self.made.root[str(node.target)] = getattr(self.old, str(node.target))
                self.made.values[node] = self.made.graph.node_copy(node)
            elif node in self.joined.carriers:
                self._carry(node, self.joined.carriers[node])
            elif not self.facts.is_pooled_later(node):
                self._emit_function(node)
            if node in self.early:
                self.neurons.fire_early(node, self.early[node])
        whole = fx.GraphModule(self.made.root, self.made.graph)
        whole.graph.eliminate_dead_code()
        used = {str(node.target) for node in whole.graph.nodes if node.op in ("get_attr", "call_module")}
        lowered = fx.GraphModule({name: item for name, item in self.made.root.items() if name in used}, whole.graph)
        lowered.graph.lint()
        return LoweredNetwork(lowered.eval(), tuple(stored))

    def _stored(self, node: fx.Node) -> StoredWords:
        stored = self.made.fired[node][1]
        return StoredWords(
            layer_of(node), node.meta.get(WORDS_OF, node.name), 0 if stored is None else int(stored.zero_point)
        )

    def _observed(self, node: fx.Node) -> fx.Node:
        """The bytes that a layer of neurons fires, in the potential's shape."""
        fired, blocks = self.made.fired[node][0], self.in_blocks.get(node)
        return fired if blocks is None else self.made.call(node, "_pixels", ToPixels(blocks), fired)

    def _emit_output(self, node: fx.Node, words: Sequence[fx.Node]) -> None:
        results = fx.map_arg(node.args[0], self.made.values.__getitem__)
        if not words:
            self.made.graph.output(results)
            return
        listed = list(results) if isinstance(results, (tuple, list)) else [results]
        self.made.graph.output((*listed, *words))

    def _emit_function(self, node: fx.Node) -> None:
        copied = self.made.graph.node_copy(node, lambda source: self._operand(node, source))
        if node in self.sums.plain:
            copied.args = tuple(self.made.values[operand] for operand in self.sums.operands(node))
        elif node in self.folds.orders:
            copied.args = tuple(copied.args[node.args.index(operand)] for operand in self.folds.orders[node])
        self.made.values[node] = copied

    def _carry(self, node: fx.Node, carried: Carried) -> None:
        """Moves or joins bytes, and reads them as words afterwards."""
        made = self.made
        made.carried[node] = made.graph.node_copy(node, lambda source: made.carried.get(source, made.values[source]))
        stored = made.stored_parts(carried)
        if WORDS_OF in node.meta:
            made.fired[node] = made.carried[node], stored[0]
        read = ReadCarried(stored, carried.sizes, carried.dim)
        made.values[node] = made.call(node, "_read", read, made.carried[node])

    def _operand(self, reader: fx.Node, source: fx.Node) -> fx.Node:
        factor = self.folds.read_factors.get((reader, source))
        if factor is not None:
            return self.made.times(reader, source, factor)
        if reader in self.sums.plain:
            return self.made.values[source]
        if reader in self.joined.apart and self.sums.moves_words(source):
            return self.made.call(reader, f"_{source.name}", Whole(), self.made.values[source])
        if not self.dialect.folds_sums and self.sums.is_words(source) and self.sums.adds_single_scales(reader):
            return self.made.call(reader, f"_{source.name}", Whole(), self.made.values[source])
        return self.made.values[source]

    def _emit_module(self, node: fx.Node, module: nn.Module) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if node in self.in_sides:
            return
        if isinstance(module, SpikingNeuron):
            self.neurons.emit(node, module, source)
        elif isinstance(module, TableTransfer):
            self.made.values[node] = self._transferred(node, module, source)
        elif isinstance(module, LeakyTransfer):
            self.made.values[node] = self._rectified(node, module, source)
        elif isinstance(module, Synapse):
            self.made.values[node] = self._synapse(node, module, self.made.values[source])
        elif isinstance(module, IntegerScale):
            unit = max((self.sums.plain.get(user, 1.0) for user in node.users), default=1.0)
            self.made.values[node] = self.made.times(node, source, module.multiplier / unit * self.facts.factor(node))
        elif isinstance(module, SumPool):
            self.made.values[node] = self._window_sum(node, module, self.made.values[source])
        elif isinstance(module, Product):
            self._emit_product(node, module)
        elif isinstance(module, ToReal):
            self.made.values[node] = self._real(node, module, source)
        else:
            inputs = [self.made.values[arg] for arg in node.all_input_nodes]
            self.made.values[node] = self.made.call(node, "", copy.deepcopy(module), *inputs)

    def _real(self, node: fx.Node, module: ToReal, source: fx.Node) -> fx.Node:
        """Counts in the network's units."""
        if node in self.folds.readers:
            return self.made.values[source]
        if self.facts.multiplies_weights(source):
            return self.made.call(node, "_scaled", Scaled(module.unit), self.made.rounded(node, source))
        return self.made.times(node, source, module.unit)

    def _window_sum(self, node: fx.Node, pool: SumPool, counts: fx.Node) -> fx.Node:
        """Sums of windows; OpenVINO (2026.4) gets them wrong if channels differ in scale and several nodes read."""
        scale, channels = pool.multiplier * self.facts.factor(node), self.shapes[node.name][1] or 0
        differ = not pool.geometry.dims and not bool((scale == scale.flatten()[0]).all())
        if self.dialect.rounds_first and differ and len(node.users) > 1:
            plain = self.made.call(node, "_sums", WindowSum(pool.geometry, _ONE, channels, lifted=False), counts)
            along = scale.view(-1, *[1] * len(pool.geometry.kernel))
            return self.made.call(node, "", Scaled(along), self.made.call(node, "_whole", Whole(), plain))
        sums = WindowSum(pool.geometry, scale, channels, lifted=self.dialect.lifts_sums)
        return self.made.call(node, "", sums, counts)

    def _synapse(self, node: fx.Node, synapse: Synapse, words: fx.Node) -> fx.Node:
        scale = (synapse.multiplier.double() * self.facts.factor(node).double().flatten()).to(torch.float32)
        flat, geometry = self.dialect.flat_matrices, synapse.geometry
        bias = synapse.bias + self.facts.bias_of_readers(node)
        if node in self.blocks:
            return self.made.call(node, "", BlockSynapse(synapse.weight, bias, scale, self.blocks[node]), words)
        try:
            folded = self.dialect.folds_weights and not self.facts.fires_in_kernel(node)
            twin = IntegerSynapse(synapse.weight, bias, scale, geometry, flat=flat, folded=folded)
        except ValueError:  # scales that ONNX has no place for
            counts = IntegerSynapse(synapse.weight, bias, _ONE, geometry, flat=flat)
            along = scale.view(-1, *[1] * (synapse.weight.dim() - 2))
            return self.made.call(node, "_scaled", Scaled(along), self.made.call(node, "", counts, words))
        return self.made.call(node, "", twin, words)

    def _emit_product(self, node: fx.Node, product: Product) -> None:
        left, *others = _operands(node)
        form, first = self._product(node, product), self.made.values[left]
        if isinstance(form, BilinearForm) and self._reads_scaled(node, product, form.scale):
            form, first = BilinearForm(product, _ONE), self.made.times(node, left, form.scale)
        self.made.values[node] = self.made.call(node, "", form, first, *(self.made.values[arg] for arg in others))

    def _reads_scaled(self, node: fx.Node, product: Product, scale: Tensor) -> bool:
        """Whether a product's scale can as well be that of its left words, whose kernel multiplies its sums by it."""
        if scale.numel() != 1 or self.made.fired.get(argument_of(node), (None, None))[1] is None:
            return False
        if product.operation == "matmul":
            return True
        return self.dialect.folds_sums and is_short(float(scale)) and self.facts.breaks_ties_evenly(node)

    def _product(self, node: fx.Node, product: Product) -> nn.Module:
        if product.bound <= FLOAT32_EXACT or not any(map(self.facts.is_logarithmic, _operands(node))):
            return BilinearForm(product, product.multiplier * self.facts.factor(node))
        try:
            return SplitForm(product, self.facts.factor(node))
        except ValueError as error:
            raise too_large(node, error) from error

    def _transferred(self, node: fx.Node, transfer: TableTransfer, source: fx.Node) -> fx.Node:
        """The table's grid positions for neurons that fire from it, else its values."""
        if node in self.facts.fired_early:
            return self.made.values[source]
        folded = node in self.folds.readers
        potential = self.made.values[source] if folded else self.made.counts(node, source)
        if self.facts.reads_positions(node):
            return self.made.call(node, "_fire", self.made.fire(position_bytes(transfer)), potential)
        if self.facts.fires_from_table(node):
            return potential if folded else self.made.call(node, "", Scaled(transfer.gain), potential)
        values = copy.deepcopy(transfer)
        if folded:
            values.gain = torch.ones_like(_ONE)
        return self.made.call(node, "", values, potential)

    def _rectified(self, node: fx.Node, transfer: LeakyTransfer, source: fx.Node) -> fx.Node:
        """A leaky transfer's values in steps: by a rectifier behind its gain, where that is proven to be the same."""
        slope = self.rectifiers.slopes.get(node)
        if slope is None:
            return self.made.call(node, "", copy.deepcopy(transfer), self.made.counts(node, source))
        steps = self.made.values[source]
        if node not in self.folds.readers:
            steps = self.made.call(node, "_scaled", Scaled(transfer.gain), self.made.counts(node, source))
        return self.made.call(node, "", Rectified(slope, apart=self.dialect.rounds_first), steps)


def _reads_size(node: fx.Node) -> bool:
    """Whether a node asks for a size other than the batch's.

    OpenVINO may ask a synapse's current for it instead, and then takes the first channel's bias for all of them when it
    works biases into the rounding behind it.
    """
    return node.target is torch.ops.aten.sym_size.int and node.args[1:] != (0,)


def _operands(node: fx.Node) -> list[fx.Node]:
    """A node's positional arguments, which may be the same node twice."""
    return [argument for argument in node.args if isinstance(argument, fx.Node)]
