"""The course of a value in time: when it arrives, in how many steps, and what each step is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from snnconvert.neurons.code import weights_of


class Carrier(Enum):
    """What travels along an edge of the spiking graph."""

    SPIKES = "spikes"  # integers of one code
    CURRENT = "current"  # weighted sums of spikes
    REAL = "real"  # running estimates of the ANN's own numbers
    FRAMES = "frames"  # event frames that add up to the network's input
    STATIC = "static"  # constants and sizes: no time


@dataclass(frozen=True)
class Course:
    """How one value arrives.

    Attributes:
        carrier: what travels.
        start: tick of its first step.
        growth: ρ_t of each step, see :class:`~snnconvert.neurons.code.SpikeCode`.
        flows: whether what has arrived is an estimate of the whole at every step.
        extrapolates: whether that estimate is T/t times the sum so far (rate codes).
        spike_range: of spikes, the smallest and largest.
        words: of spikes that number their value, the table of values (``SpikeCode.words``); empty where they add up.
    """

    carrier: Carrier
    start: int = 0
    growth: tuple[float, ...] = (1.0,)
    flows: bool = False
    extrapolates: bool = False
    spike_range: tuple[int, int] | None = None
    words: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "growth", (1.0, *self.growth[1:]))
        if self.steps == 1:
            object.__setattr__(self, "flows", False)
            object.__setattr__(self, "extrapolates", False)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.growth)

    @property
    def end(self) -> int:
        """The tick after its last step."""
        return self.start + self.steps

    @property
    def weights(self) -> tuple[float, ...]:
        """κ_t of each step."""
        return weights_of(self.growth)

    @property
    def is_integer(self) -> bool:
        """Whether sums of its steps are sums of integers."""
        return all(growth.is_integer() for growth in self.growth)

    @property
    def rests_each_step(self) -> bool:
        """Whether a spike's resting value (its share of the offset) is subtracted at every step, or once."""
        return self.is_integer and not self.flows

    def carrying(self, carrier: Carrier) -> Course:
        """The same timing with another carrier."""
        if carrier is Carrier.SPIKES:
            return replace(self, carrier=carrier)
        return replace(self, carrier=carrier, spike_range=None, words=())

    def is_in_step_with(self, other: Course) -> bool:
        """Whether both arrive at the same ticks with the same worth, so that they add up step by step."""
        return self.timing == other.timing

    @property
    def timing(self) -> tuple[int, tuple[float, ...], bool, bool, tuple[int, ...]]:
        """Everything but the carrier."""
        return self.start, self.growth, self.flows, self.extrapolates, self.words


def whole(carrier: Carrier, tick: int) -> Course:
    """A value that arrives as a whole at one tick."""
    return Course(carrier, start=tick)


def product_course(left: Course, right: Course) -> Course:
    """The course of a product's current: words that number their value are read when both sides are complete."""
    if left.words or right.words:
        return whole(Carrier.CURRENT, max(left.end, right.end) - 1)
    if left.is_in_step_with(right) and left.flows:
        return Course(Carrier.CURRENT, left.start, (1.0,) * left.steps, flows=True, extrapolates=True)
    if left.is_in_step_with(right) and left.rests_each_step:
        return Course(Carrier.CURRENT, left.start, tuple(growth * growth for growth in left.growth))
    held, sent = (left, right) if left.end <= right.end else (right, left)
    start = max(sent.start, held.end - 1)
    flows = sent.flows and start == sent.start
    return Course(Carrier.CURRENT, start, sent.growth, flows=flows, extrapolates=sent.extrapolates and flows)
