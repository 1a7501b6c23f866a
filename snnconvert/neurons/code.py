"""What a neuron's T spikes stand for, and how it fires them: the base of every spike code."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError

MAX_SPIKE_BITS = 8
MAX_STEPS = 1024
MAX_COUNT = (1 << 16) - 1


def check_range(value: object, low: int, high: int, what: str) -> None:
    """Refuses anything but an integer in low..high.

    Raises:
        ConfigurationError: naming what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(f"{what} must be an integer from {low} to {high}, got {value!r}")


@dataclass(frozen=True)
class SpikeCode(ABC):
    """A window of T spikes s_t, the value z it stands for, and the neuron that fires it.

    A synapse applies its weights to the spikes of each step; the membrane that receives them does

        v_t = ρ_t·v_{t−1} + W·s_t,        so that v_T = W·z with z = Σ_t κ_t·s_t − o, κ_t = Π_{τ>t} ρ_τ

    with the growth ρ_t of the code (1 for rate codes, 2^b for the packed code). z counts steps Δ of the
    ANN's value. Potentials are counted in T-ths of Δ where a neuron fires while it integrates, so that a
    constant current i (in Δ per window) is the exact number i a step, and in Δ where it integrates first.

    Where spikes don't add up (``adds_up``), k = Σ_t κ_t·s_t numbers a value in a table z_k (:attr:`words`), and only
    products of two activations read them, each word as a whole.

    A subclass is one file: the pure step function with its state, this description of its spikes, and
    an entry in the registry.

    Attributes:
        bits: b, the width setting of one spike; see ``spike_bits`` for what one spike really takes.
        T: time steps.
        offset: zero point o of a code whose spikes are unsigned; 0 where values are.
        signed: whether spikes carry a sign; only codes with ``has_sign``.
    """

    bits: int
    T: int
    offset: int = 0
    signed: bool = False

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    extrapolates: ClassVar[bool] = True
    has_sign: ClassVar[bool] = False
    adds_up: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check()
        if self.signed and not self.has_sign:
            raise ConfigurationError(f"{self.name}: its spikes are unsigned")
        if isinstance(self.offset, bool) or not isinstance(self.offset, int) or not 0 <= self.offset <= self.span:
            raise ConfigurationError(f"offset must lie in 0..{self.span:g}, got {self.offset!r}")

    def check(self) -> None:
        """Refuses settings the code can't have.

        Raises:
            ConfigurationError: if b is not in 1..8, T not in 1..1024, or the window counts beyond 65,535.
        """
        check_range(self.bits, 1, MAX_SPIKE_BITS, "bits")
        check_range(self.T, 1, MAX_STEPS, "T")
        if self.largest_value > MAX_COUNT:
            raise ConfigurationError(f"bits={self.bits} and T={self.T} count beyond {MAX_COUNT}: lower bits or T")

    @property
    @abstractmethod
    def spike_range(self) -> tuple[int, int]:
        """Smallest and largest spike."""

    @property
    @abstractmethod
    def largest_value(self) -> float:
        """The largest value of a window, in Δ, that calibration lets it stand for, without offset."""

    @property
    def growth(self) -> tuple[float, ...]:
        """ρ_t for t = 1..T."""
        return (1.0,) * self.T

    @property
    def spike_bits(self) -> int:
        """b_s, bits of one spike as the account charges them, a sign included."""
        return self.bits + int(self.signed)

    @property
    def magnitude_bits(self) -> int:
        """Bits of the largest spike's magnitude."""
        return max(abs(bound).bit_length() for bound in self.spike_range)

    @property
    def span(self) -> float:
        """Largest minus smallest value, in Δ."""
        return self.largest_value * (2 if self.signed else 1)

    @property
    def minimum(self) -> float:
        """The smallest value z it stands for."""
        return -self.largest_value if self.signed else -self.offset

    @property
    def maximum(self) -> float:
        """The largest value z it stands for."""
        return self.largest_value if self.signed else self.largest_value - self.offset

    @property
    def extremes(self) -> tuple[int, int]:
        """Integers that bound every Σ κ_t·s_t − o whatever the neuron does, for the proof of exact sums."""
        low, high = self.spike_range
        total = sum(self.weights)
        return min(math.floor(low * total) - self.offset, 0), max(math.ceil(high * total) - self.offset, 0)

    @property
    def weights(self) -> tuple[float, ...]:
        """κ_t, what a spike of step t is worth, for t = 1..T."""
        return weights_of(self.growth)

    @property
    def words(self) -> tuple[int, ...]:
        """The table z_0 < z_1 < … of a code whose spikes number their value; empty where spikes add up to it."""
        return ()

    @property
    def held_bits(self) -> int:
        """Bits of a whole value, where it takes the place of a weight."""
        return self.extremes[1].bit_length()

    @property
    def rests(self) -> tuple[int, ...]:
        """What the offset is at each step, so that Σ κ_t·s_t − o = Σ κ_t·s_t less the rests at their worth.

        Here the whole offset at once, to be subtracted beside the steps; see ``rests_each_step``.
        """
        return (self.offset, *(0,) * (self.T - 1))

    @abstractmethod
    def initial(self, like: Tensor) -> Any:
        """State of neurons of a tensor's shape and device before the first step."""

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: current in, integer spikes and the next state out.

        Args:
            current: float64. T times the current of this step in Δ if the code streams; otherwise the
                whole window's in Δ, at its first step.
            state: of :meth:`initial` or the step before.

        Returns:
            uint8 spikes (int8 if negative ones occur) of the current's shape, and the state.
        """

    def coast(self, _: Any) -> tuple[Tensor, Any]:
        """One later step of a code that integrates first: no current, only spikes and resets.

        Raises:
            TypeError: for a code that streams, which takes current at every step.
        """
        raise TypeError(f"{self.name} neurons take current at every step")

    def quantize_(self, values: Tensor, ceiling: float) -> Tensor:
        """The window's value for a constant current, clip(⌊u + 1/2⌋, minimum, ceiling); may overwrite u."""
        whole = values.floor()
        return whole.add_(values.sub_(whole) >= 0.5).clamp_(self.minimum, min(ceiling, self.maximum))

    def spanning(self, low: float, high: float) -> tuple[float, SpikeCode]:
        """The step Δ and the code, with offset or sign, that cover values low ≤ 0 ≤ high."""
        if self.has_sign:
            return max(-low, high) / self.largest_value, dataclasses.replace(self, signed=low < 0)
        step = (high - low) / self.largest_value
        best = min(max(round(-low / step), 0), math.floor(self.largest_value))
        offset = self.zero_point_near(best)
        if offset != best:
            step = max(-low / max(offset, 1), high / max(self.largest_value - offset, 1))
        return step, dataclasses.replace(self, offset=offset)

    def zero_point_near(self, offset: int) -> int:
        """The zero point taken where an offset would fit the range best."""
        return offset

    def from_spikes(self, spikes: Tensor | Sequence[Tensor]) -> Tensor:
        """Values z = Σ_t κ_t·s_t − o of spike trains [T, ...], float64."""
        total = torch.zeros_like(spikes[0], dtype=torch.float64)
        for growth, step in zip(self.growth, spikes, strict=True):
            total = total * growth + step.double()
        return self.decoded(total * self.weights[-1])

    def decoded(self, total: Tensor) -> Tensor:
        """Values z of sums Σ_t κ_t·s_t: less the offset, or looked up in the table."""
        return looked_up(total, self.words) if self.words else total - self.offset

    def ceiling_at(self, clip: float) -> int:
        """The largest value that neurons fire behind a rectifier that clips at so many steps."""
        return max(min(round(clip), math.ceil(self.maximum)), 0)

    def options(self) -> dict[str, Any]:
        """The settings beyond bits, T, offset and sign that differ from their defaults."""
        extra = [field for field in dataclasses.fields(self) if field.name not in BASE_FIELDS]
        return {f.name: getattr(self, f.name) for f in extra if getattr(self, f.name) != f.default}


BASE_FIELDS = tuple(field.name for field in dataclasses.fields(SpikeCode))


def looked_up(numbers: Tensor, words: Sequence[int]) -> Tensor:
    """z_k of whole numbers k in a floating type, in that type."""
    table = torch.tensor(words, dtype=numbers.dtype, device=numbers.device)
    return table[numbers.long()]


def weights_of(growth: Sequence[float]) -> tuple[float, ...]:
    """κ_t = Π_{τ>t} ρ_τ of growths ρ_1..ρ_T."""
    weights = [1.0]
    for factor in reversed(growth[1:]):
        weights.append(weights[-1] * factor)
    return tuple(reversed(weights))
