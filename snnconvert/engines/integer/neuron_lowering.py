"""Lowering neurons: which of a runtime's kernels fires each layer, from what."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.aligned_sums import is_kept_by_division
from snnconvert.engines.integer.averages import AveragedWords, averaged_size, scales_of_average
from snnconvert.engines.integer.block_twins import ToBlocks
from snnconvert.engines.integer.early_firing import EarlyFiring
from snnconvert.engines.integer.emission import Emission
from snnconvert.engines.integer.fired_positions import position_bytes, words_of_positions
from snnconvert.engines.integer.formulas import formula_of
from snnconvert.engines.integer.graph_facts import argument_of, layer_of
from snnconvert.engines.integer.logarithmic_twins import FireValues
from snnconvert.engines.integer.pixel_blocks import PixelBlocks
from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.twins import (
    Bytes,
    FormulaWords,
    IntegerSynapse,
    ReadWords,
    Scaled,
    WholeWords,
    WordTable,
)
from snnconvert.errors import EngineError
from snnconvert.neurons.current import SumPool
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

_ONE = torch.ones(())
BELOW = "_below"


class NeuronLowering:
    """Writes neurons into a graph of twins."""

    def __init__(
        self,
        made: Emission,
        shapes: Mapping[str, tuple[int | None, ...]],
        in_blocks: Mapping[fx.Node, PixelBlocks],
        *,
        reads_sizes: bool,
    ) -> None:
        """Stores what there is to know of the spiking graph.

        Args:
            made: what was written of it.
            shapes: of what each window sum reads, by node name; None for sizes that may be others.
            in_blocks: neurons whose words are read as blocks of pixels.
            reads_sizes: whether anything asks for a size other than the batch's.
        """
        self.made, self.shapes, self.in_blocks, self.reads_sizes = made, shapes, in_blocks, reads_sizes
        self.dialect, self.facts = made.dialect, made.facts
        self.modules, self.folds, self.sums = self.facts.modules, self.facts.folds, self.facts.sums
        self.rectifiers = self.facts.rectifiers

    def emit(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> None:
        """Writes a layer of neurons that reads a source.

        Raises:
            EngineError: naming the layer, if its logarithmic words are beyond float32.
        """
        if isinstance(neuron.code, LogarithmicCode):
            self._emit_logarithmic(node, neuron, source)
            return
        if node in self.facts.fired_early:
            self.made.note_fired(node, self.made.values[source], self.facts.early_bytes(neuron))
            return
        stored = self.facts.stored_bytes(node, neuron)
        fired = self._fired_apart_from_currents(node, neuron, source, stored)
        if fired is None:
            self._emit_on_current(node, neuron, source, stored)
        else:
            self.made.note_fired(node, fired, stored)

    def fire_early(self, node: fx.Node, firing: EarlyFiring) -> None:
        """Puts the bytes that neurons behind moves fire in a node's place."""
        fire = self.made.fire(self._early_bytes(self.modules[firing.neurons[0]]), rounds=self.dialect.rounds_first)
        potential = self.made.values[node]
        if not firing.is_in_steps:
            multiplies_weights = self.dialect.folds_weights and self.facts.convolves(node)
            counts = self.made.rounded(node, node) if multiplies_weights else potential
            potential = self.made.call(node, "_scaled", Scaled(firing.gain), counts)
        self.made.values[node] = self.made.call(node, "_fire", fire, potential)

    def _early_bytes(self, fired: nn.Module) -> Bytes:
        """How words, or a table's positions, are stored that fire before they are moved."""
        if isinstance(fired, TableTransfer):
            return position_bytes(fired)
        assert isinstance(fired, SpikingNeuron)
        return self.facts.early_bytes(fired)

    def _fired_apart_from_currents(
        self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node, stored: Bytes
    ) -> fx.Node | None:
        """The bytes of neurons that kernels fire from other bytes: from two sides, a table or an average."""
        if node in self.rectifiers.sides:
            return self._fired_by_sides(node, stored)
        if source in self.modules and self.facts.fires_from_table(source):
            return self.made.call(node, "_table", self._fired_function(node, neuron, stored), self.made.values[source])
        return self._averaged(node, source, stored)

    def _emit_on_current(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node, stored: Bytes) -> None:
        """Writes neurons that fire on a current, inside the kernel of what makes it where the runtime can."""
        pool = source if self.facts.is_pooled_later(source) else None
        origin = source if pool is None else argument_of(pool)
        potential = self.made.values[origin]
        folded = node in self.folds.readers
        unit = self.sums.plain.get(origin, 1.0)
        scaled = not folded and (neuron.bias is not None or not bool((neuron.gain * unit == 1).all()))
        if scaled:
            potential = self.made.scaled(node, neuron, origin, clipped=stored.is_clipped)
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
            potential = self.made.call(node, "_blocks", ToBlocks(self.in_blocks[node].side), potential)
        fired = self.made.call(node, "_fire", self.made.fire(stored, rounds=rounds), potential)
        if pool is not None:
            read = self.made.call(node, "_unpooled", ReadWords(stored, _ONE), fired)
            pooled = self.made.graph.node_copy(pool, lambda arg: read if arg is origin else self.made.values[arg])
            fired = self.made.call(node, "_pooled", self.made.fire(stored, clips=False), pooled)
        self.made.note_fired(node, fired, stored)

    def _rounds_sum(self, node: fx.Node, plain_sum: fx.Node, neuron: SpikingNeuron) -> bool:
        """Whether OpenVINO's rounding into bytes, in a convolution's kernel, takes over a plain sum's gain as it is."""
        in_kernel = self.sums.neuron_of(self.sums.operands(plain_sum)[0]) in self.made.whole
        is_byte = neuron.bias is None and neuron.ceiling == LARGEST_BYTE
        return in_kernel and is_byte and self.sums.is_read_by_synapse(node) and is_kept_by_division(neuron.gain)

    def _keep_in_kernel(self, node: fx.Node, stored: Bytes, potential: fx.Node) -> None:
        """Words that a sum reads and nothing else: they stay in the kernel, and are stored for observers only."""
        self.made.values[node] = self.made.call(node, "_whole", WholeWords(stored), potential)
        fired = self.made.call(node, "_fire", self.made.fire(stored), self.made.values[node])
        self.made.fired[node] = fired, stored
        self.made.whole.add(node)

    def _averaged(self, node: fx.Node, source: fx.Node, stored: Bytes) -> fx.Node | None:
        """The bytes of neurons on a mean of words over whole images, if a kernel that averages bytes fires them."""
        pool = self.modules.get(source)
        if not self.dialect.averages_bytes or not isinstance(pool, SumPool) or node not in self.folds.readers:
            return None
        fired, read = self.made.bytes_read(argument_of(source))
        size = averaged_size(pool.geometry, self.shapes[source.name])
        if fired is None or read is None or size is None:
            return None
        scale = (pool.multiplier * self.facts.factor(source)).to(torch.float32)
        scales = scales_of_average(float(scale), size) if scale.numel() == 1 else None
        if scales is None:
            return None
        fire = self.made.fire(stored, step=scales[1])
        return self.made.call(node, "_fire", AveragedWords(read, scales, fire, keepdim=pool.geometry.keepdim), fired)

    def _fired_by_sides(self, node: fx.Node, stored: Bytes) -> fx.Node:
        """The bytes of a leaky transfer's neurons, from the words that its two gains fire."""
        transfer = self.modules[self.rectifiers.sides[node]]
        assert isinstance(transfer, LeakyTransfer)
        above = self._side(node, "", transfer.gain, Bytes(0, LARGEST_BYTE, signed=False))
        below = self._side(node, BELOW, transfer.negative_gain, Bytes(LARGEST_BYTE, 0, signed=False))
        total = self.made.graph.call_function(operator.add, (above, below))
        return self.made.call(node, "_fire", self.made.fire(stored), total)

    def _side(self, node: fx.Node, side: str, gain: Tensor, stored: Bytes) -> fx.Node:
        """What a gain fires of the synapse that a leaky transfer reads, as whole numbers."""
        source = argument_of(self.rectifiers.sides[node])
        synapse = self.modules[source]
        assert isinstance(synapse, Synapse)
        scale = (synapse.multiplier.double() * gain.double().flatten()).to(torch.float32)
        flat, geometry = self.dialect.flat_matrices, synapse.geometry
        twin = IntegerSynapse(synapse.weight, synapse.bias, scale, geometry, flat=flat)
        current = self.made.call(source, side, twin, self.made.values[argument_of(source)])
        fired = self.made.call(node, f"_fire{side}", self.made.fire(stored), current)
        return self.made.call(node, f"_read{side}", ReadWords(stored, _ONE), fired)

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
        return FormulaWords(formula, self.made.fire(stored, rounds=elsewhere))

    def _emit_logarithmic(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> None:
        try:
            fire = FireValues(neuron, flat=self.dialect.flat_tables)
        except ValueError as error:
            raise too_large(node, error) from error
        potential = self.made.values[source]
        if node not in self.folds.readers:
            potential = self.made.scaled(node, neuron, source)
        self.made.values[node] = self.made.call(node, "_fire", fire, potential)
        self.made.fired[node] = self.made.values[node], None


def too_large(node: fx.Node, reason: ValueError) -> EngineError:
    """The refusal of logarithmic words, or of sums of their products, that are beyond float32."""
    return EngineError(
        f"{layer_of(node)}: {reason}, more than this engine has for logarithmic words: choose engine torch, fewer "
        "bits, or attention_code uniform"
    )
