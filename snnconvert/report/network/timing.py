"""Which rows of a tensor are the time steps of which image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Timing:
    """How a network lays out images and the time steps it takes at once.

    Attributes:
        images: N.
        steps: S, time steps of one call in multi-step layout; 1 where calls are steps.
        time_first: whether steps come before images, as [S, N, ...] or folded to [S·N, ...].
    """

    images: int
    steps: int
    time_first: bool = True

    def steps_of(self, shape: Sequence[int]) -> int | None:
        """Time steps within one tensor of this shape; None if its rows are no multiple of the images.

        Rows that are a multiple of S·N hold S steps of several positions each; others of a network in multi-step layout
        hold steps alone.
        """
        leading = (self.steps, self.images) if self.time_first else (self.images, self.steps)
        if not shape:
            return None
        if tuple(shape[:2]) == leading and len(shape) > 2:
            return self.steps
        if shape[0] == self.images:
            return 1
        if shape[0] % (self.steps * self.images) == 0:
            return self.steps
        if shape[0] % self.images:
            return None
        return shape[0] // self.images if self.steps > 1 else 1

    def by_step(self, values: Tensor) -> Tensor:
        """Values of a shape with steps and images as [steps, neurons of all images]."""
        steps = self.steps_of(values.shape)
        if steps is None or steps == 1:
            return values.reshape(1, -1)
        if self.time_first:
            return values.reshape(steps, -1)
        return values.reshape(self.images, steps, -1).transpose(0, 1).reshape(steps, -1)


def steps_inside(convolved: Iterable[Sequence[int]], others: Iterable[Sequence[int]], images: int) -> int:
    """S of a network whose inputs have no time: the rows for an image that most layers agree on.

    Args:
        convolved: shapes [rows, ...] that convolutions read.
        others: shapes that other layers read, rows not yet folded, channels last.
        images: N.
    """
    ratios = [shape[0] // images for shape in convolved if shape[0] % images == 0]
    ratios = ratios or [found for shape in others if (found := _leading_steps(shape, images)) is not None]
    counts = Counter(ratios)
    return max(counts, key=lambda ratio: (counts[ratio], ratio), default=1)


def _leading_steps(shape: Sequence[int], images: int) -> int | None:
    if len(shape) > 2 and shape[1] == images and shape[0] != images:
        return shape[0]
    return shape[0] // images if shape and shape[0] % images == 0 else None
