"""Words: T digits of b bits each that a neuron fires once its whole window has come, the largest digit first."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import MAX_SPIKE_BITS, SpikeCode, check_range

MAX_WORD_BITS = 8


@dataclass(frozen=True)
class WordCode(SpikeCode):
    """The digits s_t in 0..2^b−1 of a number k = Σ_t s_t·2^(b(T−t)), 0 ≤ k < 2^(bT), that stands for the value.

    What a neuron fires depends on its window's total alone, so that the closed form is exact. b·T ≤ 8.
    """

    exact: ClassVar[bool] = True
    streams: ClassVar[bool] = False
    extrapolates: ClassVar[bool] = False

    def check(self) -> None:
        """Refuses words of more than 8 bits.

        Raises:
            ConfigurationError: if b or T is not an integer in 1..8, or b·T > 8.
        """
        check_range(self.bits, 1, MAX_SPIKE_BITS, "bits")
        check_range(self.T, 1, MAX_WORD_BITS, "T")
        if self.word_bits > MAX_WORD_BITS:
            raise ConfigurationError(
                f"bits x T = {self.bits} x {self.T} = {self.word_bits} exceeds {MAX_WORD_BITS}: "
                "a packed word holds at most 8 bits; lower bits or T"
            )

    @property
    def word_bits(self) -> int:
        """b·T, the bits of one word."""
        return self.bits * self.T

    @property
    def held_bits(self) -> int:
        """b·T."""
        return self.word_bits

    @property
    def levels(self) -> int:
        """2^(bT), the number of values a word can take."""
        return 1 << self.word_bits

    @property
    def spike_range(self) -> tuple[int, int]:
        """0..2^b−1."""
        return 0, (1 << self.bits) - 1

    @property
    def growth(self) -> tuple[float, ...]:
        """ρ = 2^b: whoever receives the digits shifts what came before by b bits a step."""
        return (float(1 << self.bits),) * self.T

    @abstractmethod
    def numbers(self, values: Tensor) -> Tensor:
        """The numbers k, int64, that stand for values of the code."""

    def to_spikes(self, values: Tensor) -> Tensor:
        """Digits s_t = ⌊k / 2^(b(T−t))⌋ mod 2^b of the numbers k that stand for values.

        Args:
            values: values of the code, any shape and numeric dtype.

        Returns:
            int64 tensor [T, ...], the most significant digit first.
        """
        numbers = self.numbers(values)
        shifts = [self.bits * (self.T - 1 - t) for t in range(self.T)]
        mask = (1 << self.bits) - 1
        return torch.stack([(numbers >> shift) & mask for shift in shifts])
