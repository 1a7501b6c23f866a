"""Integer synapses: convolutions and linear layers of packed words with integer weights.

A synapse computes I = (W·z + b)·m with integer words z, weights W, bias b and channel multipliers m.
It runs in float32, where sums of integers are exact as long as no partial sum exceeds 2^24; the bound
is proven from the weights. Where it doesn't hold the sum is split into parts that satisfy it and
added up in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.neurons.weight_integers import widths_of

FLOAT32_EXACT = 1 << 24
BIAS_RESERVE = 1 << 15
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class ConvGeometry:
    """Stride, padding and dilation per spatial dimension, and the number of groups.

    A transposed convolution may pad its output's end, too.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()


def outputs_first(weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight [I, O/groups, ...] as [O, I/groups, ...]; its own inverse."""
    split = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return split.flatten(0, 1).contiguous()


def accumulator_bound(weight: Tensor, bias: Tensor, low: int, high: int) -> Tensor:
    """Largest |partial sum| of W·z + b over all words z in low..high and all orders of summation.

    max(Σ max(w·low, w·high, 0), Σ max(−w·low, −w·high, 0)) + |b| for each output channel.

    Args:
        weight: integers [O, ...].
        bias: integers [O].
        low: smallest word, ≤ 0.
        high: largest word, ≥ 0.

    Returns:
        float64 [O].
    """
    flat = weight.reshape(weight.shape[0], -1).to(torch.float64)
    positive, negative = flat.clamp(min=0).sum(1), (-flat).clamp(min=0).sum(1)
    upward = positive * high + negative * -low
    downward = positive * -low + negative * high
    return torch.maximum(upward, downward) + bias.to(torch.float64).abs()


def convolve(words: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """A convolution, transposed or not, of words [N, I, ...] with a weight in the operator's own layout."""
    g, rank = geometry, weight.dim() - 2
    if g.transposed:
        transposed = _TRANSPOSED[rank]
        return transposed(words, weight, bias, g.stride, g.padding, g.output_padding, g.groups, g.dilation)
    return _CONVOLUTIONS[rank](words, weight, bias, g.stride, g.padding, g.dilation, g.groups)


def _channels_last(weight: Tensor) -> Tensor:
    """Two-dimensional kernels in the memory order in which CPU convolutions are fastest."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight


def _prepare_again(synapse: Synapse, _: object) -> None:
    synapse.prepare()


class Synapse(nn.Module):
    """An integer convolution or linear layer, I = (W·z + b)·m.

    Buffers:
        weight: int8 [O, ...], symmetric, |w| ≤ 2^(b_w−1) − 1, or ±1 with one bit.
        channel_bits: uint8 [O], b_w of each output channel; None where all have ``weight_bits``.
        bias: int32 [O], in accumulator units.
        multiplier: int32 [O], ≥ 1, brings currents that are added later to one unit.
        unit: float64 [O], the ANN value of one count of the output current.
        limits: int64 [2], the smallest and largest input word.
    """

    limits: Tensor
    weight: Tensor
    channel_bits: Tensor | None
    bias: Tensor
    multiplier: Tensor
    unit: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        multiplier: Tensor,
        unit: Tensor,
        *,
        geometry: ConvGeometry | None,
        weight_bits: int,
        channel_bits: Tensor | None = None,
        word_range: tuple[int, int],
        wide: bool = False,
        bias_reserve: int = 0,
    ) -> None:
        """Stores the integers and prepares the float weights that run them.

        Args:
            weight: int8 [O, I/groups, ...kernel] or, for a linear layer, [O, I].
            bias: int32 [O].
            multiplier: int32 [O].
            unit: float64 [O].
            geometry: of a convolution; None for a linear layer.
            weight_bits: b_w, for the account; the largest mean where channels have widths of their own.
            channel_bits: those widths [O].
            word_range: smallest (≤ 0) and largest (≥ 0) input word.
            wide: return float64, because later sums of this current may pass 2^24.
            bias_reserve: how many counts :meth:`shift_bias` may add.
        """
        super().__init__()
        self.geometry = geometry
        self.weight_bits = weight_bits
        self.wide = wide
        self.bias_reserve = bias_reserve
        self._part_count = 0
        self._scales_outside = False
        self.register_buffer("limits", torch.tensor(word_range))
        self.register_buffer("weight", weight.to(torch.int8))
        self.register_buffer("channel_bits", None if channel_bits is None else channel_bits.to(torch.uint8))
        self.register_buffer("bias", bias.to(torch.int32))
        self.register_buffer("multiplier", multiplier.to(torch.int32))
        self.register_buffer("unit", unit.to(torch.float64))
        self.prepare()
        self.register_load_state_dict_post_hook(_prepare_again)  # type: ignore[no-untyped-call]

    @property
    def word_range(self) -> tuple[int, int]:
        """Smallest and largest input word."""
        low, high = self.limits.tolist()
        return low, high

    @property
    def widths(self) -> Tensor:
        """Weight bits of each output channel, int64 [O]."""
        return widths_of(self.weight_bits if self.channel_bits is None else self.channel_bits, self.weight)

    def bound(self) -> Tensor:
        """Proven bound of |I|, with room for :meth:`shift_bias`, for each output channel, float64 [O]."""
        bias = self.bias.to(torch.float64).abs() + self.bias_reserve
        return accumulator_bound(self.weight, bias, *self.word_range) * self.multiplier

    def prepare(self) -> None:
        """Derives the float tensors that run the integers; called again when the integers change.

        The multiplier is folded into the float weights, or applied in float64 where they would not fit.
        """
        fits = bool(self.bound().max() <= FLOAT32_EXACT)
        inside = self.multiplier if fits else torch.ones_like(self.multiplier)
        self._scales_outside = bool((self.multiplier != inside).any())
        self._set_derived("_inside", inside.to(torch.float64))
        self._set_derived("_outside", (self.multiplier // inside).to(torch.float64))
        self._set_derived("_bias", self.bias * self.get_buffer("_inside"))
        weight = self.weight.to(torch.float32) * self.channelwise(inside.to(torch.float32), self.weight.dim(), axis=0)
        parts = self._exact_parts(weight)
        for index in range(len(parts), self._part_count):
            delattr(self, f"_weight_{index}")
        self._part_count = len(parts)
        for index, part in enumerate(parts):
            self._set_derived(f"_weight_{index}", self._as_run(part))

    def shift_bias(self, counts: Tensor) -> Tensor:
        """Adds integer counts [O] to the bias, at most the reserve, and returns what was added."""
        added = counts.round().clamp(-self.bias_reserve, self.bias_reserve).to(torch.int32)
        self.bias += added
        self._set_derived("_bias", self.bias * self.get_buffer("_inside"))
        return added

    def finish(self) -> None:
        """Gives up the reserve of the bias: from here on the synapse is what it will be when loaded."""
        self.bias_reserve = 0
        self.prepare()

    def forward(self, words: Tensor) -> Tensor:
        """Integer current [N, O, ...] ([..., O] if linear) of integer-valued float32 words.

        float32, or float64 where it or later sums may pass 2^24.
        """
        if self._part_count == 1:
            weight, bias = self.get_buffer("_weight_0"), self.get_buffer("_bias")
            current = self._sum(words.to(weight.dtype), weight, bias.to(weight.dtype))
        else:
            current = self._sum_parts(words)
            current.add_(self.channelwise(self.get_buffer("_bias"), current.dim()))
        return self._scaled(current)

    def current_with(self, weight: Tensor, bias: Tensor, words: Tensor) -> Tensor:
        """The current (W·z + b)·m with other weights [O, ...] and bias [O], in their type: nothing is proven exact."""
        multiplier = self.multiplier.to(weight.dtype)
        scaled = weight * self.channelwise(multiplier, weight.dim(), axis=0)
        return self.with_weights(scaled, bias.to(weight.dtype) * multiplier, words)

    def with_weights(self, weight: Tensor, bias: Tensor | None, words: Tensor) -> Tensor:
        """W·z + b with other weights [O, ...] and bias [O] or none, in their type, without the multiplier."""
        return self._sum(words.to(weight.dtype), self._as_run(weight), bias)

    def integrate(self, spikes: Tensor, rest: Tensor | None = None, *, wide: bool = False) -> Tensor:
        """The current W·(s − r)·m of the spikes of one step, without the bias, in the type of :meth:`forward`.

        Args:
            spikes: integers s, [N, ...].
            rest: their resting values r, broadcastable to s; the weights see s and r apart.
            wide: sum in float64, for spikes beyond the words the proof is about.
        """
        current = self._current(spikes, wide=wide)
        if rest is not None:
            current = current - self._current(rest, wide=wide)
        if wide and self._part_count == 1 and self.get_buffer("_weight_0").dtype == torch.float32:
            current = current.to(torch.float32)
        return self._scaled(current)

    def holds_spikes(self, low: int, high: int) -> bool:
        """Whether the sums of spikes in low..high are proven exact: they are words, or float32 holds them."""
        smallest_word, largest_word = self.word_range
        if smallest_word <= low and high <= largest_word:
            return True
        weight = self.weight * self.channelwise(self.get_buffer("_inside"), self.weight.dim(), axis=0)
        no_bias = torch.zeros_like(self.get_buffer("_bias"))
        return float(accumulator_bound(weight, no_bias, min(low, 0), max(high, 0)).max()) <= FLOAT32_EXACT

    def bias_current(self, dims: int) -> Tensor:
        """The bias b·m that enters once a window, float64, shaped to broadcast over ``dims`` dimensions."""
        return self.channelwise(self.bias.double() * self.multiplier, dims)

    def channelwise(self, values: Tensor, dims: int, axis: int | None = None) -> Tensor:
        """Views [O] values so that they broadcast over the channel axis of a ``dims``-dimensional tensor."""
        channel = self.channel_axis(dims) if axis is None else axis
        return values.view([-1 if dim == channel else 1 for dim in range(dims)])

    def channel_axis(self, dims: int) -> int:
        """The axis of the output's channels: 1 for a convolution, the last for a linear layer."""
        return dims - 1 if self.geometry is None else 1

    @property
    def _is_transposed(self) -> bool:
        return self.geometry is not None and self.geometry.transposed

    def _as_run(self, weight: Tensor) -> Tensor:
        """[O, I/groups, ...] in the layout and memory order the operator takes."""
        if self.geometry is not None and self.geometry.transposed:
            weight = outputs_first(weight, self.geometry.groups)
        return _channels_last(weight)

    def _set_derived(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def _exact_parts(self, weight: Tensor) -> list[Tensor]:
        """Splits the input channels so that float32 sums of each part are proven exact."""
        low, high = self.word_range
        scaled_bias = self.get_buffer("_bias").abs() + self.bias_reserve * self.get_buffer("_inside")
        if float(accumulator_bound(weight, scaled_bias, low, high).max()) <= FLOAT32_EXACT:
            return [weight]
        no_bias = torch.zeros_like(scaled_bias)
        splittable = self.geometry is None or self.geometry.groups == 1
        for count in range(2, weight.shape[1] + 1 if splittable else 2):
            parts = list(torch.split(weight, -(-weight.shape[1] // count), dim=1))
            if all(float(accumulator_bound(p, no_bias, low, high).max()) <= FLOAT32_EXACT for p in parts):
                return parts
        return [weight.double()]

    def _sum_parts(self, words: Tensor) -> Tensor:
        axis = words.dim() - 1 if self.geometry is None else 1
        total: Tensor | None = None
        start = 0
        for index in range(self._part_count):
            weight = self.get_buffer(f"_weight_{index}")
            inputs = weight.shape[0 if self._is_transposed else 1]
            part = self._sum(words.narrow(axis, start, inputs), weight, None).double()
            total = part if total is None else total.add_(part)
            start += inputs
        assert total is not None
        return total

    def _current(self, spikes: Tensor, *, wide: bool) -> Tensor:
        if wide:
            weight = self.weight * self.channelwise(self.get_buffer("_inside"), self.weight.dim(), axis=0)
            return self._sum(spikes.double(), self._as_run(weight.double()), None)
        if self._part_count == 1:
            weight = self.get_buffer("_weight_0")
            return self._sum(spikes.to(weight.dtype), weight, None)
        return self._sum_parts(spikes.to(torch.float32))

    def _scaled(self, current: Tensor) -> Tensor:
        if not self._scales_outside:
            return current.double() if self.wide else current
        return current.double() * self.channelwise(self.get_buffer("_outside"), current.dim())

    def _sum(self, words: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.geometry is None:
            return F.linear(words, weight, bias)
        return convolve(words, weight, bias, self.geometry)

    def extra_repr(self) -> str:
        """Shape, width and geometry for printing."""
        shape = "x".join(str(size) for size in self.weight.shape)
        return f"{shape}, weight_bits={self.weight_bits}, geometry={self.geometry}"
