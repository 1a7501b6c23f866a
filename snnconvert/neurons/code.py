"""The packed code: T spikes of b bits, most significant digit first, carried as one small integer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError

MAX_WORD_BITS = 8


def check_bits_and_steps(bits: int, T: int, where: str = "") -> None:
    """Refuses spike widths and step counts outside 1..8, and words of more than 8 bits.

    Args:
        bits: spike bits b, the width of one spike.
        T: time steps.
        where: the layer or option the values belong to, for the message.

    Raises:
        ConfigurationError: if b or T is not an integer in 1..8, or b·T > 8.
    """
    place = f"{where}: " if where else ""
    for name, value in (("bits", bits), ("T", T)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORD_BITS:
            raise ConfigurationError(f"{place}{name} must be an integer from 1 to {MAX_WORD_BITS}, got {value!r}")
    if bits * T > MAX_WORD_BITS:
        raise ConfigurationError(
            f"{place}bits x T = {bits} x {T} = {bits * T} exceeds {MAX_WORD_BITS}: "
            "a packed word holds at most 8 bits; lower bits or T"
        )


@dataclass(frozen=True)
class PackedCode:
    """A packed word z = Σ_t s_t·2^(b(T−t)) of T spikes s_t in 0..2^b−1.

    With an offset o the word stands for the signed integer z − o (offset binary): the spikes stay
    unsigned and the constant −o is a bias current in the synapses that read them.

    Equivalent to SpikePack's packed integer at τ = 2 (Shen et al., ICCV 2025; b = 1), with b-bit
    spikes as in Shen et al., CVPR 2024.

    Attributes:
        bits: spike bits b, 1..8.
        T: time steps, 1..8, b·T ≤ 8.
        offset: zero point o in 0..2^(bT)−1; 0 for unsigned values.
    """

    bits: int
    T: int
    offset: int = 0

    def __post_init__(self) -> None:
        check_bits_and_steps(self.bits, self.T)
        if isinstance(self.offset, bool) or not isinstance(self.offset, int) or not 0 <= self.offset < self.levels:
            raise ConfigurationError(f"offset must lie in 0..{self.levels - 1}, got {self.offset!r}")

    @property
    def word_bits(self) -> int:
        """b·T, the bits of one packed word."""
        return self.bits * self.T

    @property
    def levels(self) -> int:
        """2^(bT), the number of values a word can take."""
        return 1 << self.word_bits

    @property
    def minimum(self) -> int:
        """The smallest integer a word stands for, −o."""
        return -self.offset

    @property
    def maximum(self) -> int:
        """The largest integer a word stands for, 2^(bT) − 1 − o."""
        return self.levels - 1 - self.offset

    def to_spikes(self, values: Tensor) -> Tensor:
        """Digits s_t = ⌊(z + o) / 2^(b(T−t))⌋ mod 2^b of integer values z.

        Args:
            values: integers in minimum..maximum, any shape and numeric dtype.

        Returns:
            int64 tensor [T, ...], the most significant digit first.
        """
        words = values.to(torch.int64) + self.offset
        shifts = [self.bits * (self.T - 1 - t) for t in range(self.T)]
        mask = (1 << self.bits) - 1
        return torch.stack([(words >> shift) & mask for shift in shifts])

    def from_spikes(self, spikes: Tensor) -> Tensor:
        """Values z = Σ_t s_t·2^(b(T−t)) − o of spike trains [T, ...]; the inverse of :meth:`to_spikes`."""
        words = torch.zeros_like(spikes[0], dtype=torch.int64)
        for step in spikes:
            words = (words << self.bits) + step.to(torch.int64)
        return words - self.offset
