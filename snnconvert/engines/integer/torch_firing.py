"""Neurons that fire in the kernel of what they read: a synapse, a sum, a max-pool behind a synapse, a table."""

from __future__ import annotations

import copy
from abc import ABC

import torch
from torch import fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.torch_builder import ByteBuilder, operands
from snnconvert.engines.integer.torch_kernels import Requantization, pack
from snnconvert.engines.integer.torch_proof import (
    exact_scales,
    folded_scales,
    is_float32,
    is_power_of_two,
    sum_is_exact,
    words_add_exactly,
)
from snnconvert.engines.integer.torch_twins import ByteSum, ByteSynapse, TableBytes
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import ConvGeometry, Synapse
from snnconvert.neurons.transfer import TableTransfer

_IMAGE = 4


class FiringBuilder(ByteBuilder, ABC):
    """A graph in the making, whose neurons fire in kernels where that is proven to give the packed network's words."""

    def fired_at_once(self, node: fx.Node, neuron: SpikingNeuron, source: fx.Node) -> fx.Node | None:
        """Bytes from the kernel of the synapse, sum or table that only these neurons read; None if they must wait."""
        if len(source.users) != 1 or not isinstance(neuron.code, PackedCode):
            return None
        module = self.modules.get(source)
        if isinstance(module, Synapse):
            return self._fired_by_synapse(node, neuron, source, module)
        if isinstance(module, TableTransfer) and neuron.is_uniform:
            potential = source.args[0]
            assert isinstance(potential, fx.Node)
            return self.call(node, "_table", TableBytes(copy.deepcopy(module), neuron), self.value(potential))
        if source.op != "call_function":
            return None
        kind = kind_of(source)
        if kind is OpKind.ADD:
            if not neuron.is_uniform or float(neuron.gain) <= 0 or neuron.code.offset % 2:
                return None  # an odd zero point added before rounding turns ties around
            return self._fired_by_sum(node, neuron, source) or self._fired_by_words(node, neuron, source)
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
        found = self.convolution_and_rest(total)
        if found is None:
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
        scaled_exactly = is_power_of_two(gain) and words[1] == neuron.code.offset == 0
        if not scaled_exactly and not sum_is_exact(scales, factor, words[1]):
            return None
        source, zero_point = self.read(current, synapse)
        weights = self.packed(current, synapse, scales, zero_point)
        offset = neuron.code.offset
        top = min(neuron.ceiling + offset, LARGEST_BYTE)
        added = ByteSum(weights, Requantization(offset), factor, words[1], top)
        return self.call(node, "_fire", added, source, words[0])

    def _fired_by_words(self, node: fx.Node, neuron: SpikingNeuron, total: fx.Node) -> fx.Node | None:
        """g·(m·z + m'·z') of two layers' words: one of them passes through a convolution that does nothing."""
        terms, shape = operands(total), self.traces[total].shape
        if len(terms) != 2 or len(total.args) != 2 or total.kwargs or len(shape) != _IMAGE:
            return None
        scaled = [self._scaled_words(term, shape) for term in terms]
        if terms[0] is terms[1] or scaled[0] is None or scaled[1] is None:
            return None
        first, second = sorted((scaled[0], scaled[1]), key=lambda words: -words[2])
        (left, zero_point, multiplier), (right, other_point, other_multiplier) = first, second
        gain = float(neuron.gain)
        scale, other_scale = multiplier * gain, other_multiplier * gain
        if other_scale <= 0 or not words_add_exactly(scale, other_scale):
            return None
        channels, offset = shape[1], neuron.code.offset
        through = ConvGeometry((1, 1), (0, 0), (1, 1), channels)
        ones = torch.ones(channels, 1, 1, 1, dtype=torch.int8)
        weights = pack(ones, torch.full((channels,), scale), None, zero_point, through, shape)
        top = min(neuron.ceiling + offset, LARGEST_BYTE)
        added = ByteSum(weights, Requantization(offset), other_scale, other_point, top)
        return self.call(node, "_fire", added, left, right)

    def _scaled_words(self, term: fx.Node, shape: tuple[int, ...]) -> tuple[fx.Node, int, float] | None:
        """Bytes, zero point and multiplier of words that join a sum and have its shape."""
        scale = self.modules.get(term)
        if not isinstance(scale, IntegerScale) or scale.wide or scale.multiplier.numel() != 1:
            return None
        stored = self.bytes.get(operands(term)[0])
        fits = self.traces[term].shape == shape
        return (*stored, float(scale.multiplier)) if stored is not None and fits else None

    def convolution_and_rest(self, node: fx.Node) -> tuple[fx.Node, Synapse, fx.Node] | None:
        """A convolution that only a sum of two currents reads and an 8-bit kernel computes, and the other current."""
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


def _requantization(neuron: SpikingNeuron) -> Requantization:
    offset = neuron.code.offset
    is_clipped = neuron.ceiling + offset < LARGEST_BYTE
    return Requantization(offset, (float(-offset), float(neuron.ceiling)) if is_clipped else None)
