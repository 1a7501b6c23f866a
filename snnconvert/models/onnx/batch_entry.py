"""Where a fixed shape gives way to the true batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class BatchEntry:
    """target[entry] = x.shape[axis]·multiplier/divisor.

    Attributes:
        axis: The input's dimension that carries the batch.
        entry: The entry of the target shape that carries it.
        multiplier: Of the input's size.
        divisor: Of the input's size.
        moved: Whether the batch changes its place, and the other entries are the shape of each sample.
    """

    axis: int
    entry: int
    multiplier: int = 1
    divisor: int = 1
    moved: bool = False

    def applied(self, target: list[Any], value: Tensor) -> list[Any]:
        """The target with its batch entry replaced."""
        size: Any = value.shape[self.axis]
        size = size if self.multiplier == 1 else size * self.multiplier
        size = size if self.divisor == 1 else size // self.divisor
        return [size if index == self.entry else item for index, item in enumerate(target)]
