"""Lowering: the spiking graph as a graph of ONNX twins, ready for export.

Equal to the packed network: words are the same integers, currents are integers times a scale that float32 holds
exactly. What is analog stays as it is.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.aligned_sums import is_kept_by_division, is_short
from snnconvert.engines.integer.averages import AveragedWords, averaged_size, scales_of_average
from snnconvert.engines.integer.block_twins import BlockSynapse, ToBlocks, ToPixels
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.early_firing import EarlyFiring
from snnconvert.engines.integer.fired_apart import PART, WORDS_OF
from snnconvert.engines.integer.fired_positions import position_bytes, words_of_positions
from snnconvert.engines.integer.formulas import formula_of
from snnconvert.engines.integer.graph_facts import GraphFacts, argument_of
from snnconvert.engines.integer.joined_words import Carried, JoinedWords
from snnconvert.engines.integer.logarithmic_twins import FireValues, SplitForm
from snnconvert.engines.integer.module_calls import call_for
from snnconvert.engines.integer.pixel_blocks import PixelBlocks
from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.twins import (
    BilinearForm,
    Bytes,
    FireWords,
    FormulaWords,
    IntegerSynapse,
    ReadCarried,
    ReadWords,
    Rectified,
    Scaled,
    Whole,
    WholeWords,
    WindowSum,
    WordTable,
)
from snnconvert.errors import EngineError
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

_ONE = torch.ones(())
BELOW = "_below"


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
        self.reads_sizes = any(_reads_size(node) for node in network.graph.nodes)
        self.graph = fx.Graph()
        self.root: dict[str, object] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        self.fired: dict[fx.Node, tuple[fx.Node, Bytes | None]] = {}
        self.carried: dict[fx.Node, fx.Node] = {}
        self.whole: set[fx.Node] = set()

    def run(self, *, observed: bool) -> LoweredNetwork:
        stored: list[StoredWords] = []
        for node in self.old.graph.nodes:
            if node.op == "output":
                layers = [source for source in self.fired if PART not in source.meta] if observed else []
                stored = [self._stored(source) for source in layers]
                self._emit_output(node, [self._observed(source) for source in layers])
            elif node.op == "call_module":
                self._emit_module(node, self.modules[node])
            elif node.op == "get_attr":
                self.root[str(node.target)] = getattr(self.old, str(node.target))
                self.values[node] = self.graph.node_copy(node)
            elif node in self.joined.carriers:
                self._carry(node, self.joined.carriers[node])
            elif not self.facts.is_pooled_later(node):
                self._emit_function(node)
            if node in self.early:
                self._fire_early(node, self.early[node])
        whole = fx.GraphModule(self.root, self.graph)
        whole.graph.eliminate_dead_code()
        used = {str(node.target) for node in whole.graph.nodes if node.op in ("get_attr", "call_module")}
        lowered = fx.GraphModule({name: item for name, item in self.root.items() if name in used}, whole.graph)
        lowered.graph.lint()
        return LoweredNetwork(lowered.eval(), tuple(stored))

    def _stored(self, node: fx.Node) -> StoredWords:
        stored = self.fired[node][1]
        return StoredWords(
            layer_of(node), node.meta.get(WORDS_OF, node.name), 0 if stored is None else int(stored.zero_point)
        )

    def _observed(self, node: fx.Node) -> fx.Node:
        """The bytes that a layer of neurons fires, in the potential's shape."""
        fired, blocks = self.fired[node][0], self.in_blocks.get(node)
        return fired if blocks is None else self.call(node, "_pixels", ToPixels(blocks), fired)

    def _emit_output(self, node: fx.Node, words: Sequence[fx.Node]) -> None:
        results = fx.map_arg(node.args[0], self.values.__getitem__)
        if not words:
            self.graph.output(results)
            return
        listed = list(results) if isinstance(results, (tuple, list)) else [results]
        self.graph.output((*listed, *words))

    def _emit_function(self, node: fx.Node) -> None:
        copied = self.graph.node_copy(node, lambda source: self._operand(node, source))
        if node in self.sums.plain:
            copied.args = tuple(self.values[operand] for operand in self.sums.operands(node))
        elif node in self.folds.orders:
            copied.args = tuple(copied.args[node.args.index(operand)] for operand in self.folds.orders[node])
        self.values[node] = copied

    def _carry(self, node: fx.Node, carried: Carried) -> None:
        """Moves or joins bytes, and reads them as words afterwards."""
        self.carried[node] = self.graph.node_copy(node, lambda source: self.carried.get(source, self.values[source]))
        stored = [each for neuron in carried.parts if (each := self.fired[neuron][1]) is not None]
        if WORDS_OF in node.meta:
            self.fired[node] = self.carried[node], stored[0]
        read = ReadCarried(stored, carried.sizes, carried.dim)
        self.values[node] = self.call(node, "_read", read, self.carried[node])

    def _operand(self, reader: fx.Node, source: fx.Node) -> fx.Node:
        factor = self.folds.read_factors.get((reader, source))
        if factor is not None:
            return self._times(reader, source, factor)
        if reader in self.sums.plain:
            return self.values[source]
        if reader in self.joined.apart and self.sums.moves_words(source):
            return self.call(reader, f"_{source.name}", Whole(), self.values[source])
        if not self.dialect.folds_sums and self.sums.is_words(source) and self.sums.adds_single_scales(reader):
            return self.call(reader, f"_{source.name}", Whole(), self.values[source])
        return self.values[source]

    def _emit_module(self, node: fx.Node, module: nn.Module) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if node in self.in_sides:
            return
        if isinstance(module, SpikingNeuron):
            self._emit_neuron(node, module, source)
        elif isinstance(module, TableTransfer):
            self.values[node] = self._transferred(node, module, source)
        elif isinstance(module, LeakyTransfer):
            self.values[node] = self._rectified(node, module, source)
        elif isinstance(module, Synapse):
            self.values[node] = self._synapse(node, module, self.values[source])
        elif isinstance(module, IntegerScale):
            unit = max((self.sums.plain.get(user, 1.0) for user in node.users), default=1.0)
            self.values[node] = self._times(node, source, module.multiplier / unit * self.facts.factor(node))
        elif isinstance(module, SumPool):
            self.values[node] = self._window_sum(node, module, self.values[source])
        elif isinstance(module, Product):
            self._emit_product(node, module)
        elif isinstance(module, ToReal):
            self.values[node] = self._real(node, module, source)
        else:
            inputs = [self.values[arg] for arg in node.all_input_nodes]
            self.values[node] = self.call(node, "", copy.deepcopy(module), *inputs)

    def _real(self, node: fx.Node, module: ToReal, source: fx.Node) -> fx.Node:
        """Counts in the network's units."""
        if node in self.folds.readers:
            return self.values[source]
        if self.facts.multiplies_weights(source):
            return self.call(node, "_scaled", Scaled(module.unit), self._rounded(node, source))
        return self._times(node, source, module.unit)

    def _window_sum(self, node: fx.Node, pool: SumPool, counts: fx.Node) -> fx.Node:
        """Sums of windows; OpenVINO (2026.4) gets them wrong if channels differ in scale and several nodes read."""
        scale, channels = pool.multiplier * self.facts.factor(node), self.shapes[node.name][1] or 0
        differ = not pool.geometry.dims and not bool((scale == scale.flatten()[0]).all())
        if self.dialect.rounds_first and differ and len(node.users) > 1:
            sums = self.call(node, "_sums", WindowSum(pool.geometry, _ONE, channels, lifted=False), counts)
            along = scale.view(-1, *[1] * len(pool.geometry.kernel))
            return self.call(node, "", Scaled(along), self.call(node, "_whole", Whole(), sums))
        return self.call(node, "", WindowSum(pool.geometry, scale, channels, lifted=self.dialect.lifts_sums), counts)

    def _synapse(self, node: fx.Node, synapse: Synapse, words: fx.Node) -> fx.Node:
        scale = (synapse.multiplier.double() * self.facts.factor(node).double().flatten()).to(torch.float32)
        flat, geometry = self.dialect.flat_matrices, synapse.geometry
        bias = synapse.bias + self.facts.bias_of_readers(node)
        if node in self.blocks:
            return self.call(node, "", BlockSynapse(synapse.weight, bias, scale, self.blocks[node]), words)
        try:
            folded = self.dialect.folds_weights and not self.facts.fires_in_kernel(node)
            twin = IntegerSynapse(synapse.weight, bias, scale, geometry, flat=flat, folded=folded)
        except ValueError:  # scales that ONNX has no place for
            counts = IntegerSynapse(synapse.weight, bias, _ONE, geometry, flat=flat)
            along = scale.view(-1, *[1] * (synapse.weight.dim() - 2))
            return self.call(node, "_scaled", Scaled(along), self.call(node, "", counts, words))
        return self.call(node, "", twin, words)

    def _emit_product(self, node: fx.Node, product: Product) -> None:
        left, *others = _operands(node)
        form, first = self._product(node, product), self.values[left]
        if isinstance(form, BilinearForm) and self._reads_scaled(node, product, form.scale):
            form, first = BilinearForm(product, _ONE), self._times(node, left, form.scale)
        self.values[node] = self.call(node, "", form, first, *(self.values[arg] for arg in others))

    def _reads_scaled(self, node: fx.Node, product: Product, scale: Tensor) -> bool:
        """Whether a product's scale can as well be that of its left words, whose kernel multiplies its sums by it."""
        if scale.numel() != 1 or self.fired.get(argument_of(node), (None, None))[1] is None:
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
            raise _too_large(node, error) from error

    def _emit_logarithmic(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> None:
        try:
            fire = FireValues(neuron, flat=self.dialect.flat_tables)
        except ValueError as error:
            raise _too_large(node, error) from error
        potential = self.values[source]
        if node not in self.folds.readers:
            potential = self._scaled(node, neuron, source)
        self.values[node] = self.call(node, "_fire", fire, potential)
        self.fired[node] = self.values[node], None

    def _fire_early(self, node: fx.Node, firing: EarlyFiring) -> None:
        """Puts the bytes that neurons behind moves fire in a node's place."""
        neuron = self.modules[firing.neurons[0]]
        assert isinstance(neuron, SpikingNeuron)
        dialect = self.dialect
        fire = FireWords(self.facts.early_bytes(neuron), clips_bytes=dialect.clips_bytes, rounds=dialect.rounds_first)
        potential = (
            self._rounded(node, node) if dialect.folds_weights and self.facts.convolves(node) else self.values[node]
        )
        scaled = self.call(node, "_scaled", Scaled(firing.gain), potential)
        self.values[node] = self.call(node, "_fire", fire, scaled)

    def _emit_neuron(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> None:
        if isinstance(neuron.code, LogarithmicCode):
            self._emit_logarithmic(node, neuron, source)
            return
        if node in self.facts.fired_early:
            self._note_fired(node, self.values[source], self.facts.early_bytes(neuron))
            return
        stored = self.facts.stored_bytes(node, neuron)
        if node in self.rectifiers.sides:
            self._note_fired(node, self._fired_by_sides(node, stored), stored)
            return
        if source in self.modules and self.facts.fires_from_table(source):
            fired = self.call(node, "_table", self._fired_function(node, neuron, stored), self.values[source])
            self._note_fired(node, fired, stored)
            return
        averaged = self._averaged(node, source, stored)
        if averaged is not None:
            self._note_fired(node, averaged, stored)
            return
        pool = source if self.facts.is_pooled_later(source) else None
        origin = source if pool is None else argument_of(pool)
        potential = self.values[origin]
        folded = node in self.folds.readers
        unit = self.sums.plain.get(origin, 1.0)
        scaled = not folded and (neuron.bias is not None or not bool((neuron.gain * unit == 1).all()))
        if scaled:
            potential = self._scaled(node, neuron, origin, clipped=stored.is_clipped)
        in_convolution = pool is None and not scaled and self.facts.has_bias(origin) and self.facts.convolves(origin)
        added_in_kernel = in_convolution and self.sums.is_added_in_kernel(node)
        if added_in_kernel or (pool is None and self.facts.stays_float(node, stored)):
            self._keep_in_kernel(node, stored, potential)
            return
        if origin in self.sums.plain:
            in_rounding = pool is None and self._rounds_sum(node, origin, neuron)
        else:
            in_rounding = not scaled and self.facts.has_bias(origin) and not self.sums.joins(node)
        in_rounding = in_rounding and neuron.code.offset == 0 and not self.reads_sizes
        rounds = self.dialect.rounds_first and not in_rounding
        if node in self.in_blocks:
            potential = self.call(node, "_blocks", ToBlocks(self.in_blocks[node].side), potential)
        fire = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=rounds)
        fired = self.call(node, "_fire", fire, potential)
        if pool is not None:
            read = self.call(node, "_unpooled", ReadWords(stored, _ONE), fired)
            pooled = self.graph.node_copy(pool, lambda arg: read if arg is pool.args[0] else self.values[arg])
            again = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=False, clips=False)
            fired = self.call(node, "_pooled", again, pooled)
        self._note_fired(node, fired, stored)

    def _averaged(self, node: fx.Node, source: fx.Node, stored: Bytes) -> fx.Node | None:
        """The bytes of neurons on a mean of words over whole images, if a kernel that averages bytes fires them."""
        pool = self.modules.get(source)
        if not self.dialect.averages_bytes or not isinstance(pool, SumPool) or node not in self.folds.readers:
            return None
        fired, read = self._bytes_read(argument_of(source))
        size = averaged_size(pool.geometry, self.shapes[source.name])
        if fired is None or read is None or size is None:
            return None
        scale = (pool.multiplier * self.facts.factor(source)).to(torch.float32)
        scales = scales_of_average(float(scale), size) if scale.numel() == 1 else None
        if scales is None:
            return None
        fire = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=False, step=scales[1])
        return self.call(node, "_fire", AveragedWords(read, scales, fire, keepdim=pool.geometry.keepdim), fired)

    def _bytes_read(self, words: fx.Node) -> tuple[fx.Node | None, Bytes | None]:
        """Words as the bytes they are, fired or joined, if they have one zero point; else None."""
        joined = self.joined.carriers.get(words)
        if joined is None:
            return self.fired.get(words, (None, None))
        stored = [each for neuron in joined.parts if (each := self.fired[neuron][1]) is not None]
        alike = len({int(each.zero_point) for each in stored}) == 1
        return (self.carried[words], stored[0]) if alike else (None, None)

    def _scaled(self, node: fx.Node, neuron: SpikingNeuron, origin: fx.Node, *, clipped: bool = False) -> fx.Node:
        """(p + β)·g of neurons' potential, which comes from an origin, each rounded as in the packed network."""
        unit, counts = self.sums.plain.get(origin, 1.0), self.values[origin]
        is_sum = self.facts.adds_whole(origin) or (clipped and self.sums.moves_words(origin))
        is_moved = self.dialect.rounds_first and origin not in self.sums.plain and is_sum
        if is_moved or self.facts.multiplies_weights(origin):
            counts = self._rounded(node, origin)
        bias = None if neuron.bias is None else neuron.bias / unit
        return self.call(node, "_scaled", Scaled(neuron.gain * unit, bias, apart=self.dialect.rounds_first), counts)

    def _counts(self, node: fx.Node, origin: fx.Node) -> fx.Node:
        """The potential that a node scales, apart from what it is made of where a runtime would scale that."""
        is_moved = self.dialect.rounds_first and self.facts.adds_whole(origin)
        is_folded = self.facts.multiplies_weights(origin)
        return self._rounded(node, origin) if is_moved or is_folded else self.values[origin]

    def _rounded(self, node: fx.Node, origin: fx.Node) -> fx.Node:
        """Integers that a node scales, where a runtime would work the scale into what they are made of."""
        return self.call(node, "_words", Whole(), self.values[origin])

    def _keep_in_kernel(self, node: fx.Node, stored: Bytes, potential: fx.Node) -> None:
        """Words that a sum reads and nothing else: they stay in the kernel, and are stored for observers only."""
        self.values[node] = self.call(node, "_whole", WholeWords(stored), potential)
        fire = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=False)
        self.fired[node] = self.call(node, "_fire", fire, self.values[node]), stored
        self.whole.add(node)

    def _rounds_sum(self, node: fx.Node, plain_sum: fx.Node, neuron: SpikingNeuron) -> bool:
        """Whether OpenVINO's rounding into bytes, in a convolution's kernel, takes over a plain sum's gain as it is."""
        in_kernel = self.sums.neuron_of(self.sums.operands(plain_sum)[0]) in self.whole
        is_byte = neuron.bias is None and neuron.ceiling == LARGEST_BYTE
        return in_kernel and is_byte and self.sums.is_read_by_synapse(node) and is_kept_by_division(neuron.gain)

    def _note_fired(self, node: fx.Node, fired: fx.Node, stored: Bytes) -> None:
        self.fired[node] = fired, stored
        self.carried[node] = fired
        self.values[node] = self.call(node, "_read", ReadWords(stored, _ONE), fired)

    def _transferred(self, node: fx.Node, transfer: TableTransfer, source: fx.Node) -> fx.Node:
        """The table's grid positions for neurons that fire from it, else its values."""
        folded = node in self.folds.readers
        potential = self.values[source] if folded else self._counts(node, source)
        if self.facts.reads_positions(node):
            fire = FireWords(position_bytes(transfer), clips_bytes=self.dialect.clips_bytes, rounds=False)
            return self.call(node, "_fire", fire, potential)
        if self.facts.fires_from_table(node):
            return potential if folded else self.call(node, "", Scaled(transfer.gain), potential)
        values = copy.deepcopy(transfer)
        if folded:
            values.gain = torch.ones_like(_ONE)
        return self.call(node, "", values, potential)

    def _rectified(self, node: fx.Node, transfer: LeakyTransfer, source: fx.Node) -> fx.Node:
        """A leaky transfer's values in steps: by a rectifier behind its gain, where that is proven to be the same."""
        slope = self.rectifiers.slopes.get(node)
        if slope is None:
            return self.call(node, "", copy.deepcopy(transfer), self._counts(node, source))
        steps = self.values[source]
        if node not in self.folds.readers:
            steps = self.call(node, "_scaled", Scaled(transfer.gain), self._counts(node, source))
        return self.call(node, "", Rectified(slope, apart=self.dialect.rounds_first), steps)

    def _fired_by_sides(self, node: fx.Node, stored: Bytes) -> fx.Node:
        """The bytes of a leaky transfer's neurons, from the words that its two gains fire."""
        transfer = self.modules[self.rectifiers.sides[node]]
        assert isinstance(transfer, LeakyTransfer)
        above = self._side(node, "", transfer.gain, Bytes(0, LARGEST_BYTE, signed=False))
        below = self._side(node, BELOW, transfer.negative_gain, Bytes(LARGEST_BYTE, 0, signed=False))
        total = self.graph.call_function(operator.add, (above, below))
        fire = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=False)
        return self.call(node, "_fire", fire, total)

    def _side(self, node: fx.Node, side: str, gain: Tensor, stored: Bytes) -> fx.Node:
        """What a gain fires of the synapse that a leaky transfer reads, as whole numbers."""
        source = argument_of(self.rectifiers.sides[node])
        synapse = self.modules[source]
        assert isinstance(synapse, Synapse)
        scale = (synapse.multiplier.double() * gain.double().flatten()).to(torch.float32)
        flat, geometry = self.dialect.flat_matrices, synapse.geometry
        twin = IntegerSynapse(synapse.weight, synapse.bias, scale, geometry, flat=flat)
        current = self.call(source, side, twin, self.values[argument_of(source)])
        fire = FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=False)
        fired = self.call(node, f"_fire{side}", fire, current)
        return self.call(node, f"_read{side}", ReadWords(stored, _ONE), fired)

    def _fired_function(self, node: fx.Node, neuron: SpikingNeuron, stored: Bytes) -> nn.Module:
        """What neurons fire on a transfer's grid positions: by the runtime's own function if that is proven."""
        transfer = self.modules[argument_of(node)]
        assert isinstance(transfer, TableTransfer)
        if self.facts.reads_positions(argument_of(node)):
            return words_of_positions(transfer, neuron, stored, self.dialect)
        formula = formula_of(transfer, neuron) if self.dialect.computes_functions else None
        if formula is None:
            return WordTable(neuron(transfer.table), int(transfer.first), stored, flat=self.dialect.flat_tables)
        elsewhere = any(not isinstance(self.modules.get(user), Synapse) for user in node.users)
        return FormulaWords(formula, FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=elsewhere))

    def _times(self, reader: fx.Node, source: fx.Node, factor: Tensor) -> fx.Node:
        """A value times a factor: words are read at that scale."""
        fired, stored = self.fired.get(source, (None, None))
        if fired is not None and stored is not None and factor.numel() == 1 and source not in self.whole:
            return self.call(reader, f"_{source.name}", ReadWords(stored, factor), fired)
        if bool((factor == 1).all()):
            return self.values[source]
        return self.call(reader, f"_{source.name}", Scaled(factor), self.values[source])

    def call(self, node: fx.Node, suffix: str, module: nn.Module, *sources: fx.Node) -> fx.Node:
        return call_for(node, suffix, module, sources, self.graph, self.root)


def layer_of(node: fx.Node) -> str:
    """The layer's own name of a node."""
    return str(node.meta.get("layer", node.target))


def _too_large(node: fx.Node, reason: ValueError) -> EngineError:
    return EngineError(
        f"{layer_of(node)}: {reason}, more than this engine has for logarithmic words: choose engine torch, fewer "
        "bits, or attention_code uniform"
    )


def _reads_size(node: fx.Node) -> bool:
    """Whether a node asks for a size other than the batch's.

    OpenVINO may ask a synapse's current for it instead, and then takes the first channel's bias for all of them when it
    works biases into the rounding behind it.
    """
    return node.target is torch.ops.aten.sym_size.int and node.args[1:] != (0,)


def _operands(node: fx.Node) -> list[fx.Node]:
    """A node's positional arguments, which may be the same node twice."""
    return [argument for argument in node.args if isinstance(argument, fx.Node)]
