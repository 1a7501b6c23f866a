"""Logarithmic words: digits that number a power of 2 or of √2, for values of many magnitudes such as attention maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.registry import register
from snnconvert.neurons.word import WordCode

Base = Literal["2", "sqrt2"]
BASES: tuple[str, ...] = get_args(Base)
_MOST_OCTAVES = 16
_FIRST_MANTISSA = {1: 1, 2: 12, 4: 22, 8: 31, 16: 37}


@cache
def logarithmic_table(word_bits: int, base: str) -> tuple[int, ...]:
    """The values z_k of words of w bits: z_0 = 0 and z_k = ⌊m_n·2^(i/n)⌉·2^j with k − 1 = n·j + i, 0 ≤ i < n.

    n values an octave: 1 for base 2, 2 for √2 and, where 2^w − 1 values would span more than 16 octaves, the smallest
    power of two with which they don't. So words of 5 bits take √2 in either case, of 6, 7 and 8 bits 2^(1/4), 2^(1/8)
    and 2^(1/16). The first mantissas m_n = 1, 12, 22, 31, 37 (for n = 1, 2, 4, 8, 16) are the smallest whose roundings
    stay below 1 % (12 and 17 for √2: 0.2 %), so that a product by z_k is one by a small constant and a shift.
    """
    steps = (1 << word_bits) - 2
    each = 1 if base == "2" else 2
    while steps > _MOST_OCTAVES * each:
        each *= 2
    mantissas = [round(_FIRST_MANTISSA[each] * 2 ** (place / each)) for place in range(each)]
    return (0, *(mantissas[k % each] << k // each for k in range(steps + 1)))


def middles(words: tuple[int, ...]) -> tuple[float, ...]:
    """c_k = (z_{k−1} + z_k)/2 for k = 1, 2, …: from there on z_k is the nearest value."""
    return tuple((low + high) / 2 for low, high in pairwise(words))


class LogarithmicState(NamedTuple):
    """Potential v in steps Δ, float64; the number that the digits so far spell, int64; and the steps fired."""

    potential: Tensor
    number: Tensor
    step: int


def logarithmic_step(
    current: Tensor | None, state: LogarithmicState, bits: int, T: int, thresholds: Tensor
) -> tuple[Tensor, LogarithmicState]:
    """One step: s_t = #{s in 1..2^b−1 : v ≥ c_{(k·2^b + s)·2^(b(T−t))}}, then k ← k·2^b + s_t.

    A successive approximation: nothing is subtracted from v, the digits before choose the thresholds. All T digits
    together number the value nearest to v, the upper one of two at the same distance.

    Source: the log2 and log-√2 quantizers of attention maps (FQ-ViT, Lin et al., IJCAI 2022; RepQ-ViT, Li et al.,
    ICCV 2023); that they round to the nearest value rather than the nearest logarithm, and that neurons fire the
    digits of its number, is this package's own.

    Args:
        current: float64, in Δ: the window's whole current at the first step, zero or None later.
        state: of the step before.
        bits: b.
        T: time steps.
        thresholds: float64 [2^(bT) − 1], c_1, c_2, ….

    Returns:
        uint8 spikes and the next state.
    """
    potential = state.potential if current is None else state.potential + current
    stride = 1 << bits * (T - 1 - state.step)
    number = torch.bucketize(potential.contiguous(), thresholds[stride - 1 :: stride].contiguous(), right=True)
    spikes = number - (state.number << bits)
    return spikes.to(torch.uint8), LogarithmicState(potential, number, state.step + 1)


@register
@dataclass(frozen=True)
class LogarithmicCode(WordCode):
    """A word that numbers a value: z = z_k with k = Σ_t s_t·2^(b(T−t)), see :func:`logarithmic_table`.

    Powers don't add up digit by digit: a product of two activations, the only reader there can be, decodes the word
    when its last digit is in. Values are never negative.

    Attributes:
        base: "2" or "sqrt2".
    """

    base: Base = "2"

    name: ClassVar[str] = "log"
    adds_up: ClassVar[bool] = False

    def check(self) -> None:
        """Refuses words of more than 8 bits, other bases and offsets.

        Raises:
            ConfigurationError: then.
        """
        super().check()
        if self.base not in BASES:
            raise ConfigurationError(f"{self.name}: base must be one of {', '.join(BASES)}, got {self.base!r}")
        if self.offset != 0:
            raise ConfigurationError(f"{self.name}: its values aren't negative, it has no offset")

    @property
    def words(self) -> tuple[int, ...]:
        """z_0 < z_1 < …, 2^(bT) of them."""
        return logarithmic_table(self.word_bits, self.base)

    @property
    def largest_value(self) -> int:
        """The last of the table."""
        return self.words[-1]

    @property
    def extremes(self) -> tuple[int, int]:
        """0 and the last of the table."""
        return 0, self.words[-1]

    def initial(self, like: Tensor) -> LogarithmicState:
        """Potential 0, nothing fired."""
        start = torch.zeros_like(like, dtype=torch.float64)
        return LogarithmicState(start, start.long(), 0)

    def step(self, current: Tensor, state: LogarithmicState) -> tuple[Tensor, LogarithmicState]:
        """See :func:`logarithmic_step`."""
        return logarithmic_step(current, state, self.bits, self.T, self._thresholds(state.potential))

    def coast(self, state: LogarithmicState) -> tuple[Tensor, LogarithmicState]:
        """See :func:`logarithmic_step`."""
        return logarithmic_step(None, state, self.bits, self.T, self._thresholds(state.potential))

    def quantize_(self, values: Tensor, ceiling: float) -> Tensor:
        """The value nearest to min(u, ceiling), the upper one of two at the same distance."""
        exact = values if values.dtype == torch.float64 else values.float()
        number = torch.bucketize(exact.clamp(max=ceiling).contiguous(), self._thresholds(exact), right=True)
        return torch.tensor(self.words, dtype=exact.dtype, device=exact.device)[number]

    def spanning(self, low: float, high: float) -> tuple[float, LogarithmicCode]:
        """The step Δ whose largest value is ``high``.

        Raises:
            ValueError: if values are negative.
        """
        if low < 0:
            raise ValueError(f"logarithmic words stand for no negative values, got {low:g}")
        return high / self.largest_value, self

    def numbers(self, values: Tensor) -> Tensor:
        """K of values z_k."""
        table = torch.tensor(self.words, device=values.device)
        return torch.searchsorted(table, values.to(torch.int64).contiguous())

    def _thresholds(self, like: Tensor) -> Tensor:
        return torch.tensor(middles(self.words), dtype=like.dtype, device=like.device)
