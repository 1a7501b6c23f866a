"""Units: every channel of current gets one, so that sums of currents are sums of integers.

Currents that are added up must count in the same unit δ. A synapse can adapt (its weights are quantized
afterwards), spikes and pooled spikes can't. For each group of channels that meet in a sum, δ and integer
multipliers m_j are chosen so that every source's scale is m_j·δ and the proven bound Σ m_j·B_j stays
below 2^24, where float32 is exact; where that would cost precision the group is summed in float64.

δ is placed on a grid that makes a neuron's gain δ/Δ a number of few mantissa bits: then v·(δ/Δ) is exact
in float32 wherever the neuron doesn't saturate, in any engine and any order of operations. Where only spikes meet,
whose scales are what they are, it is a power of two, so that each m_j·δ/Δ has few bits, too; unless their scales were
brought a few bits apart before, and with them a unit that makes one m_j a power of two and keeps the sum exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from snnconvert.convert.aligned_sums import is_short
from snnconvert.errors import ConversionError
from snnconvert.neurons.synapse import FLOAT32_EXACT

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SUBDIVISIONS = tuple(1 << power for power in range(12, 0, -1))
_WIDE_SUBDIVISION = 1 << 3
_UNCONSTRAINED_SUBDIVISION = 1 << 8
_FIXED_PRECISION = 32
_LARGEST_SYNAPSE_RATIO = 1 << 12
_LARGEST_FIXED_RATIO = 1 << 18
_LARGEST_MULTIPLIER = 1 << 31
_FLOAT64_EXACT = 1 << 53
GAIN_GRID_BITS = 16
_FEWEST_GAIN_BITS, _MOST_GAIN_BITS = 4, 8


@dataclass
class Source:
    """Currents that enter sums: C channels with their natural scale and bound.

    Attributes:
        name: what it is, for messages.
        first: index of its first channel among all channels of the problem.
        size: number of its channels C.
        scale: float64 [C], value of one count, 0 for a channel that takes any; None until the pooled
            current it stems from is solved.
        bound: float64 [C], largest |count|; None as long as the scale.
        flexible: True for a synapse, whose scale may grow.
        paths: how many times at most the current enters one sum.
        pooled_from: channel indices of the current this pools, and the window size N.
        multiplier: int64 [C], the solution m_j.
        unit: float64 [C], the solution δ of each channel.
        wide: True where sums need float64.
    """

    name: str
    first: int
    size: int
    scale: FloatArray | None
    bound: FloatArray | None
    flexible: bool
    pooled_from: tuple[IntArray, int] | None = None
    paths: int = 1
    multiplier: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    unit: FloatArray = field(default_factory=lambda: np.zeros(0))
    wide: bool = False

    @property
    def channels(self) -> IntArray:
        """Indices of its channels in the problem."""
        return np.arange(self.first, self.first + self.size)


class UnitProblem:
    """Collects sources, sums and readers, then solves for units and multipliers."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._size = 0
        self._pairs: list[tuple[IntArray, IntArray]] = []
        self._readers: list[tuple[IntArray, FloatArray, int]] = []
        self._placed: list[tuple[IntArray, float]] = []

    def add_source(
        self,
        name: str,
        size: int,
        scale: FloatArray | None,
        bound: FloatArray | None,
        *,
        flexible: bool,
        pooled_from: tuple[IntArray, int] | None = None,
    ) -> Source:
        """Adds a source of ``size`` channels; see :class:`Source`."""
        source = Source(name, self._size, size, scale, bound, flexible, pooled_from)
        self._size += size
        self.sources.append(source)
        return source

    def join(self, left: IntArray, right: IntArray) -> None:
        """States that channels left[i] and right[i] are added up."""
        self._pairs.append((left, right))

    def read(self, channels: IntArray, step: float | FloatArray, finest: int = GAIN_GRID_BITS) -> None:
        """States that neurons read these channels in steps Δ, or Δ_c [C]; the first reader places the unit.

        Args:
            channels: indices of the channels.
            step: Δ, or the spacing of the grid on which the neurons' function is tabulated.
            finest: the e of 2^−e that gains should be multiples of, so that potentials in steps are exact in float32.
        """
        self._readers.append((channels, np.broadcast_to(step, channels.shape), finest))

    def place(self, channels: IntArray, unit: float) -> None:
        """States a unit that all scales of these channels are multiples of; taken where the gain has few bits, too."""
        self._placed.append((channels, unit))

    def solve(self) -> None:
        """Sets ``multiplier``, ``unit`` and ``wide`` of every source.

        Raises:
            ConversionError: if pooled currents depend on themselves, or a sum can't be proven exact even in
                float64.
        """
        labels = self._labels()
        steps, finest = self._reader_steps(labels)
        placed = self._placed_units(labels, steps)
        units = np.zeros(steps.shape)
        bounds = np.zeros(steps.shape)
        wide = np.zeros(steps.shape, dtype=bool)
        waiting = list(self.sources)
        while waiting:
            for source in waiting:
                self._resolve_pool(source, labels, units, bounds)
            blocked = np.zeros(steps.shape, dtype=bool)
            for source in waiting:
                blocked[labels[source.channels]] |= source.scale is None
            ready = [source for source in waiting if not blocked[labels[source.channels]].any()]
            if not ready:
                raise ConversionError(f"{waiting[0].name}: pooled currents are added to what they are pooled from")
            self._solve_classes(ready, labels, (steps, finest), placed, units, bounds, wide)
            solved = {source.first for source in ready}
            waiting = [source for source in waiting if source.first not in solved]

    def inexact_sums(self, bounds: Mapping[int, FloatArray]) -> set[int]:
        """Sources whose sums pass 2^24 although they are not wide, once their true bounds are known.

        Args:
            bounds: float64 [C] bound of each source's current, multiplier included, by its first channel;
                the bound it was solved with stands for any that is missing.

        Returns:
            The first channels of those sources.
        """
        labels = self._labels()
        totals = np.zeros(int(labels.max(initial=-1)) + 1)
        for source in self.sources:
            assumed = source.multiplier * (source.bound if source.bound is not None else 0.0)
            np.add.at(totals, labels[source.channels], source.paths * bounds.get(source.first, assumed))
        meeting = np.zeros(len(totals))
        for source in self.sources:
            np.add.at(meeting, labels[source.channels], source.paths)
        alone = meeting == 1
        return {
            source.first
            for source in self.sources
            if not source.wide and bool(((totals > FLOAT32_EXACT) & ~alone)[labels[source.channels]].any())
        }

    def _labels(self) -> IntArray:
        if not self._pairs:
            return np.arange(self._size)
        left = np.concatenate([pair[0] for pair in self._pairs])
        right = np.concatenate([pair[1] for pair in self._pairs])
        graph = coo_array((np.ones(len(left)), (left, right)), shape=(self._size, self._size))
        labels: IntArray = connected_components(graph, directed=False)[1].astype(np.int64)
        return labels

    def _reader_steps(self, labels: IntArray) -> tuple[FloatArray, IntArray]:
        steps = np.zeros(int(labels.max(initial=-1)) + 1)
        finest = np.full(len(steps), GAIN_GRID_BITS)
        for channels, step, bits in reversed(self._readers):
            steps[labels[channels]], finest[labels[channels]] = step, bits
        return steps, finest

    def _placed_units(self, labels: IntArray, steps: FloatArray) -> FloatArray:
        """The unit that was placed for each class, 0 where there is none or two differ."""
        placed = np.zeros(steps.shape)
        for channels, unit in self._placed:
            classes = np.unique(labels[channels])
            known = steps[classes]
            fitting = classes[[step > 0 and is_short(unit / step) for step in known.tolist()]]
            placed[fitting] = np.where((placed[fitting] == 0) | (placed[fitting] == unit), unit, np.nan)
        return np.nan_to_num(placed)

    @staticmethod
    def _resolve_pool(source: Source, labels: IntArray, units: FloatArray, bounds: FloatArray) -> None:
        if source.scale is not None or source.pooled_from is None:
            return
        channels, window = source.pooled_from
        pooled_units = units[labels[channels]]
        if (pooled_units > 0).all():
            source.scale = pooled_units / window
            source.bound = bounds[labels[channels]] * window

    @staticmethod
    def _solve_classes(
        ready: list[Source],
        labels: IntArray,
        steps: tuple[FloatArray, IntArray],
        placed: FloatArray,
        units: FloatArray,
        bounds: FloatArray,
        wide: NDArray[np.bool_],
    ) -> None:
        label = np.concatenate([labels[s.channels] for s in ready])
        scale = np.concatenate([s.scale for s in ready if s.scale is not None])
        bound = np.concatenate([s.bound * s.paths for s in ready if s.bound is not None])
        joined = np.concatenate([np.full(s.size, s.paths > 1) for s in ready])
        flexible = np.concatenate([np.full(s.size, s.flexible) for s in ready])
        present, label = np.unique(label, return_inverse=True)
        read = steps[0][present], steps[1][present]
        chosen = _choose_units(label, len(present), scale, bound, flexible, joined, read, placed[present])
        units[present], bounds[present], wide[present] = chosen.unit, chosen.bound, chosen.wide
        start = 0
        for source in ready:
            part = slice(start, start + source.size)
            source.multiplier = chosen.multiplier[part]
            source.unit = chosen.unit[label[part]]
            source.wide = bool(chosen.wide[label[part]].any())
            start += source.size


@dataclass(frozen=True)
class _Choice:
    unit: FloatArray
    bound: FloatArray
    wide: NDArray[np.bool_]
    multiplier: IntArray


def _choose_units(
    label: IntArray,
    classes: int,
    scale: FloatArray,
    bound: FloatArray,
    flexible: NDArray[np.bool_],
    joined: NDArray[np.bool_],
    read: tuple[FloatArray, IntArray],
    placed: FloatArray,
) -> _Choice:
    """Solves all classes at once: the finest subdivision of the smallest scale that keeps sums exact.

    Args:
        label: class of each source channel, 0..classes-1.
        classes: their number.
        scale: natural scale of each source channel.
        bound: its bound, times how often it enters a sum.
        flexible: whether its scale may grow.
        joined: whether it is added to itself.
        read: Δ of the first neuron that reads each class, 0 without one, and how fine its gain may be.
        placed: the unit of each class that was told, 0 without one; taken where only spikes meet, and their sum
            stays exact in it.
    """
    step, finest = read
    largest = np.zeros(classes)
    np.maximum.at(largest, label, scale)
    flexible_smallest = _smallest(label, scale, flexible & (scale > 0), classes)
    no_synapse = np.isinf(flexible_smallest)
    flexible_smallest = np.maximum(flexible_smallest, largest / _LARGEST_SYNAPSE_RATIO)
    fixed_smallest = np.maximum(_smallest(label, scale, ~flexible, classes), largest / _LARGEST_FIXED_RATIO)
    smallest = np.where(no_synapse, fixed_smallest, np.minimum(flexible_smallest, fixed_smallest / _FIXED_PRECISION))
    smallest = np.where(np.isinf(smallest), np.where(step > 0, step, 1.0) / _UNCONSTRAINED_SUBDIVISION, smallest)
    alone = np.bincount(label, weights=1 + joined, minlength=classes) == 1

    known_step = np.where(step > 0, step, 1)
    adjustable = (step > 0) & ~(alone & no_synapse)
    words_only = no_synapse & (step > 0) & ~alone
    told = np.where(placed > 0, placed, np.inf)
    told_fits = np.bincount(label, np.rint(scale / told[label]) * bound, minlength=classes) <= FLOAT32_EXACT
    placed = np.where(words_only & told_fits, placed, 0)

    def attempt(subdivision: int) -> tuple[FloatArray, IntArray, FloatArray]:
        unit = smallest / np.where(alone, 1, subdivision)
        unit = np.where(adjustable, known_step * _coarser_gain(unit / known_step, finest), unit)
        unit = np.where(words_only, known_step / subdivision, unit)
        unit = np.where(placed > 0, placed, unit)
        ratio = scale / unit[label]
        multiplier = np.where(flexible, np.ceil(ratio - 1e-9), np.rint(ratio)).clip(1).astype(np.int64)
        return unit, multiplier, np.bincount(label, multiplier * bound, minlength=classes).astype(np.float64)

    unit, multiplier, total = attempt(_WIDE_SUBDIVISION)
    wide = np.ones(classes, dtype=bool)
    for subdivision in reversed(_SUBDIVISIONS):
        finer_unit, finer_multiplier, finer_total = attempt(subdivision)
        fits = finer_total <= FLOAT32_EXACT
        unit, total = np.where(fits, finer_unit, unit), np.where(fits, finer_total, total)
        multiplier = np.where(fits[label], finer_multiplier, multiplier)
        wide &= ~fits
    if multiplier.max(initial=0) >= _LARGEST_MULTIPLIER or total.max(initial=0) >= _FLOAT64_EXACT:
        raise ConversionError("currents of too different magnitudes are added up: their sum can't be proven exact")
    return _Choice(unit, total, wide & ~alone, multiplier)


def _smallest(label: IntArray, scale: FloatArray, among: NDArray[np.bool_], classes: int) -> FloatArray:
    result = np.full(classes, np.inf)
    np.minimum.at(result, label[among], scale[among])
    return result


def _coarser_gain(gain: FloatArray, finest: IntArray) -> FloatArray:
    """The next gain m·2^−e at or above, with 4 to 8 mantissa bits, e no larger than told where 4 bits allow it."""
    exponent = np.floor(np.log2(gain))
    bits = np.clip(finest + 1 + exponent, _FEWEST_GAIN_BITS, _MOST_GAIN_BITS)
    grid = np.exp2(exponent + 1 - bits)
    result: FloatArray = np.ceil(gain / grid - 1e-12) * grid
    return result
