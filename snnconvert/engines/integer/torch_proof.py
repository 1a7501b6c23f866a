"""Proofs that a kernel's own arithmetic fires the packed network's words, whatever it adds up to.

A kernel computes û = f32(n)·s + β of an integer sum n in float32 (rounding both operations, or only the last), and
the byte clip(rne(û) + o), adding o before or after it rounds. The packed neuron fires clip(rne((v + β)·g) + o).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse

_AROUND = 2


@dataclass(frozen=True)
class Scales:
    """What a kernel multiplies and adds.

    Attributes:
        scale: float32 [O], s.
        bias: float32 [O], β.
    """

    scale: Tensor
    bias: Tensor


def folded_scales(synapse: Synapse, neuron: SpikingNeuron, dims: int) -> Scales | None:
    """S = m·g and β = (b·m + β')·g of neurons that read one synapse, if they fire the same words so.

    Both the packed words and the kernel's are non-decreasing steps of the integer sum n, so that they are equal
    everywhere if they rise at the same n. The five integers around each of the (at most 255) rises of every channel
    are tried, in every order of operations a kernel may use; they must enclose the rise.

    Args:
        synapse: its currents have no other readers.
        neuron: packed.
        dims: of the potential.

    Returns:
        None if gains aren't one (positive) for each channel, or a single word might differ.
    """
    gain, offset = _by_channel(neuron.gain, synapse, dims), _by_channel(neuron.bias, synapse, dims)
    if gain is None or offset is None or not bool((gain > 0).all()):
        return None
    exact_scale = synapse.multiplier.double() * gain
    exact_bias = (synapse.bias.double() * synapse.multiplier.double() + offset) * gain
    found = Scales(exact_scale.float(), exact_bias.float())
    largest, shift = _largest(neuron), neuron.code.offset
    rises = torch.arange(1 - shift, largest + 1, dtype=torch.float64)[:, None] - 0.5
    middle = ((rises - exact_bias) / exact_scale).round()
    sums = torch.stack([middle + step for step in range(-_AROUND, _AROUND + 1)])
    fired = _packed_words(synapse, neuron, sums, dims)
    encloses = bool((fired[0] < rises).all()) and bool((fired[-1] > rises).all())
    same = encloses and all(torch.equal(words, fired + shift) for words in _kernel_bytes(sums, found, shift, largest))
    return found if same else None


def sum_is_exact(scales: Scales, word_scale: float, zero_point: int) -> bool:
    """Whether û = f32(n)·s + β + a·(k − p) of sums n and bytes k is exact wherever it isn't clipped anyway.

    All terms are multiples of their lowest bit h. As long as no clip is passed, |û| ≤ 256 and so
    |n·s| ≤ 256 + s + |β| + 255·a (twice that where p isn't 0, since a·p may be subtracted on its own). If that is at
    most 2^24·h, everything is exact in float32 in any order; beyond it rounding is monotone, and both sides clip.

    Args:
        scales: of the synapse; exact products.
        word_scale: a.
        zero_point: p.
    """
    values = [*scales.scale.double().tolist(), *scales.bias.double().tolist(), word_scale]
    lowest = min([1.0, *(lowest_bit(value) for value in values if value)])
    words = (2 if zero_point else 1) * LARGEST_BYTE * abs(word_scale)
    reach = LARGEST_BYTE + 1 + float(scales.scale.max()) + float(scales.bias.double().abs().max()) + words
    return reach <= FLOAT32_EXACT * lowest


def words_add_exactly(scale: float, word_scale: float) -> bool:
    """Whether s·n + a·(k − p) + o of |n| ≤ 255 and bytes k, p and o is exact in float32 wherever it isn't clipped.

    a·k and a·p may be added one after the other: no partial sum is beyond 255·s + 2·255·a, and all are multiples of
    the lowest bit of s, a and 1; with the zero point o, what is beyond 256 is clipped.
    """
    lowest = min(lowest_bit(scale), lowest_bit(word_scale), 1.0)
    reach = max(LARGEST_BYTE * (scale + 2 * word_scale), LARGEST_BYTE + 1)
    return is_float32(scale) and is_float32(word_scale) and reach <= FLOAT32_EXACT * lowest


def exact_scales(synapse: Synapse, gain: float) -> Scales | None:
    """S = m·g and β = b·m·g where float32 holds both exactly; None otherwise."""
    scale = synapse.multiplier.double() * gain
    bias = synapse.bias.double() * scale
    if not torch.equal(scale.float().double(), scale) or not torch.equal(bias.float().double(), bias):
        return None
    return Scales(scale.float(), bias.float())


def lowest_bit(value: float) -> float:
    """The largest power of two of which a number other than 0 is a multiple."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator & -numerator) / denominator


def _largest(neuron: SpikingNeuron) -> int:
    return min(neuron.ceiling, LARGEST_BYTE - neuron.code.offset)


def _by_channel(values: Tensor | None, synapse: Synapse, dims: int) -> Tensor | None:
    """float64 [O] of values broadcastable to the potential; None if they differ within a channel."""
    outputs = len(synapse.bias)
    if values is None:
        return torch.zeros(outputs, dtype=torch.float64)
    if values.numel() == 1:
        return values.double().flatten().expand(outputs)
    axis = synapse.channel_axis(dims) - dims
    fits = values.numel() == outputs and values.dim() >= -axis and values.shape[axis] == outputs
    return values.double().flatten() if fits else None


def _packed_words(synapse: Synapse, neuron: SpikingNeuron, sums: Tensor, dims: int) -> Tensor:
    """What the packed network fires at sums [K, L, O], float64."""
    potential = (sums + synapse.bias) * synapse.multiplier
    axis = synapse.channel_axis(dims)
    shape = [-1 if dim == 0 else len(synapse.bias) if dim == axis else 1 for dim in range(dims)]
    words: Tensor = neuron(potential.reshape(shape))
    return words.reshape(sums.shape).double()


def _kernel_bytes(sums: Tensor, scales: Scales, zero_point: int, largest: int) -> list[Tensor]:
    """Bytes at sums [K, L, O], float64, for each order of operations."""
    separate = sums.float() * scales.scale + scales.bias
    fused = (sums.float().double() * scales.scale.double() + scales.bias.double()).float()
    found: list[Tensor] = []
    for values in (separate, fused):
        clipped = values.clamp(-zero_point, largest)
        found.append((clipped + zero_point).round().double())
        found.append((clipped.round() + zero_point).double())
    return found


def is_float32(value: float) -> bool:
    """Whether float32 holds a number exactly."""
    return math.isfinite(value) and float(torch.tensor(value, dtype=torch.float32)) == value


def is_power_of_two(value: float) -> bool:
    """Whether float32 numbers times a positive one keep their digits."""
    return math.frexp(value)[0] == 0.5
