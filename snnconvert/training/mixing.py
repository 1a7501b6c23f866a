"""Mixup: each image with some of another one in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """What was mixed into the samples of a batch.

    Attributes:
        shares: λ, float32 [N], the part of a sample's value that is its own.
        labels: of what was mixed in, int64 [N], or None.
    """

    shares: Tensor
    labels: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Mixing:
        """The same with another form of its tensors."""
        return Mixing(change(self.shares), None if self.labels is None else change(self.labels))


@dataclass(frozen=True)
class Partners:
    """Who is mixed with whom in a step, and how much: x̃_i = λ_i·x_i + (1 − λ_i)·x_p(i) (Zhang et al., ICLR 2018).

    Attributes:
        numbers: p, a permutation of the step's samples.
        shares: λ, float32, one for each sample, drawn from Beta(α, α).
    """

    numbers: tuple[int, ...]
    shares: Tensor

    @classmethod
    def draw(cls, samples: int, alpha: float, random: torch.Generator) -> Partners:
        """Draws them.

        Args:
            samples: of the step, over all processes.
            alpha: α > 0; the larger it is, the more evenly are images mixed.
            random: of the draws.
        """
        numbers = torch.randperm(samples, generator=random)
        seed = int(torch.randint(2**62, (1,), generator=random))
        shares = np.random.default_rng(seed).beta(alpha, alpha, samples)
        return cls(tuple(numbers.tolist()), torch.from_numpy(shares).float())
