"""The packed neuron: integrates a whole window of current, then fires T spikes of b bits, largest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snnconvert.neurons.registry import register
from snnconvert.neurons.word import WordCode

_FINE_WORD_BITS = 7
_NEAR_MIDDLE = 8


class PackedState(NamedTuple):
    """Potential v in steps Δ after the resets so far, the zero point added, float64; and the steps fired."""

    potential: Tensor
    step: int


def packed_step(
    current: Tensor | None, state: PackedState, bits: int, T: int, offset: int
) -> tuple[Tensor, PackedState]:
    """One greedy step: s_t = min(⌊(v + 1/2) / θ_t⌋₊, 2^b − 1), v ← v − θ_t·s_t, with θ_t = 2^(b(T−t)).

    A potential exactly halfway between two values reaches the upper one only if that is even, so that
    the T digits together are the value rounded half to even: at the last step (θ = 1) that depends on the
    digit, before it on the zero point alone.

    Source: serial form of SpikePack (Shen et al., ICCV 2025) at τ = 2, b bits a step as in Shen et al.,
    CVPR 2024; the placement of half a least significant digit is a reconstruction.

    Args:
        current: float64, in Δ: the window's whole current at the first step, zero or None later.
        state: of the step before.
        bits: b.
        T: time steps.
        offset: zero point o.

    Returns:
        uint8 spikes and the next state.
    """
    potential = state.potential if current is None else state.potential + current
    threshold = float(1 << bits * (T - 1 - state.step))
    raised = potential + 0.5
    if bits == 1:
        spikes = (raised >= threshold).view(torch.uint8)
    else:
        spikes = (raised / threshold).floor_().clamp_(0, (1 << bits) - 1).to(torch.uint8)
    is_last = state.step == T - 1
    if is_last or offset % 2:
        halfway = (raised == spikes * threshold) & (spikes > 0)
        if is_last:
            halfway &= (spikes + offset % 2) % 2 == 1
        spikes = spikes - halfway.to(torch.uint8)
    return spikes, PackedState(potential - spikes * threshold, state.step + 1)


@register
@dataclass(frozen=True)
class PackedCode(WordCode):
    """A packed word z = Σ_t s_t·2^(b(T−t)) − o of T spikes s_t in 0..2^b−1.

    With an offset o the word stands for the signed integer (offset binary): the spikes stay unsigned and
    the constant −o is a bias current in the synapses that read them. b·T ≤ 8.

    Equivalent to SpikePack's packed integer at τ = 2 (Shen et al., ICCV 2025; b = 1), with b-bit
    spikes as in Shen et al., CVPR 2024.
    """

    name: ClassVar[str] = "packed"

    @property
    def largest_value(self) -> int:
        """2^(bT) − 1."""
        return self.levels - 1

    @property
    def rests(self) -> tuple[int, ...]:
        """The offset's own digits: subtracted digit by digit, no sum ever leaves the range of words."""
        return tuple(PackedCode(self.bits, self.T).to_spikes(torch.tensor(self.offset)).tolist())

    def initial(self, like: Tensor) -> PackedState:
        """Potential o, nothing fired."""
        return PackedState(torch.full_like(like, self.offset, dtype=torch.float64), 0)

    def step(self, current: Tensor, state: PackedState) -> tuple[Tensor, PackedState]:
        """See :func:`packed_step`."""
        return packed_step(current, state, self.bits, self.T, self.offset)

    def coast(self, state: PackedState) -> tuple[Tensor, PackedState]:
        """See :func:`packed_step`."""
        return packed_step(None, state, self.bits, self.T, self.offset)

    def zero_point_near(self, offset: int) -> int:
        """Of words of 7 or 8 bits the middle of the range, if it is near, else an even one.

        Kernels of signed bytes are fastest where the zero point is the middle; and some runtimes add it before they
        round half to even, which makes no difference to an even one.
        """
        if self.word_bits < _FINE_WORD_BITS:
            return offset
        middle = self.levels // 2
        if abs(offset - middle) <= middle // _NEAR_MIDDLE:
            return middle
        return min((offset + 1) & ~1, self.largest_value - 1)

    def quantize_(self, values: Tensor, ceiling: float) -> Tensor:
        """The word clip(rne(u), −o, ceiling), rne rounding half to even: the parallel form, in place."""
        return values.round_().clamp_(self.minimum, ceiling)

    def numbers(self, values: Tensor) -> Tensor:
        """K = z + o of integer values z in minimum..maximum."""
        return values.to(torch.int64) + self.offset
