"""Choices: which widths an allocation may give words and weights."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS
from snnconvert.neurons.word import MAX_WORD_BITS

_DEFAULT_WEIGHT_BITS = tuple(range(2, MOST_WEIGHT_BITS + 1))


@dataclass(frozen=True)
class Choices:
    """The allowed widths.

    Attributes:
        word_bits: b_s·T of packed words, each 1..8.
        weight_bits: b_w, each 1..8; a single bit only where it is asked for.
        T: the most time steps of a word.
    """

    word_bits: tuple[int, ...] = tuple(range(1, MAX_WORD_BITS + 1))
    weight_bits: tuple[int, ...] = _DEFAULT_WEIGHT_BITS
    T: int = MAX_WORD_BITS

    def __post_init__(self) -> None:
        object.__setattr__(self, "word_bits", _checked(self.word_bits, 1, MAX_WORD_BITS, "word_bits"))
        widths = _checked(self.weight_bits, FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS, "weight_bits")
        object.__setattr__(self, "weight_bits", widths)
        if isinstance(self.T, bool) or not isinstance(self.T, int) or self.T < 1:
            raise ConfigurationError(f"T must be a positive integer, got {self.T!r}")

    def split(self, word_bits: int) -> tuple[int, int]:
        """(b_s, T) of a word: T is its largest divisor that isn't above the most time steps.

        The bit budget b_w·b_s·T depends on the word alone; more steps of fewer bits make plainer spikes.
        """
        steps = max(T for T in range(1, word_bits + 1) if word_bits % T == 0 and T <= self.T)
        return word_bits // steps, steps


def _checked(values: object, low: int, high: int, name: str) -> tuple[int, ...]:
    known = isinstance(values, (tuple, list)) and values
    if not known or not all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in values):  # type: ignore[attr-defined]
        raise ConfigurationError(f"{name} must be integers from {low} to {high}, got {values!r}")
    return tuple(sorted(set(values)))  # type: ignore[call-overload]
