"""A width that is learned: a real number that is used rounded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnconvert.training.learned_bits.quantizer import clamped_through, rounded_through


class Width(nn.Module):
    """b̂ = ⌊clip(|b|, 1, most)⌉, with the gradient of |b| straight through (Yao et al., 2025).

    Parameters:
        value: b, a scalar; it has no gradient while the width is fixed.

    Buffers:
        fixed: int64 scalar, the whole number it is fixed at; 0 while it is learned.
    """

    fixed: Tensor

    def __init__(self, initial: int, most: int, *, learned: bool) -> None:
        """Starts at a whole number.

        Args:
            initial: the number.
            most: the largest one.
            learned: whether it changes.
        """
        super().__init__()
        self.initial, self.most = initial, most
        self.value = nn.Parameter(torch.tensor(float(initial)), requires_grad=learned)
        self.register_buffer("fixed", torch.tensor(0 if learned else initial))

    @property
    def rounded(self) -> int:
        """b̂."""
        return int(self.fixed) or round(float(self.value.detach().abs().clamp(1, self.most)))

    @property
    def is_learned(self) -> bool:
        """Whether it still changes."""
        return int(self.fixed) == 0

    def forward(self) -> Tensor:
        """b̂ with gradients."""
        if not self.is_learned:
            return self.fixed.to(self.value)
        return rounded_through(clamped_through(self.value, 1.0, float(self.most)))

    def confine(self) -> None:
        """Takes the number itself back into 1..most, so that it can return at once."""
        with torch.no_grad():
            self.value.copy_(self.value.abs().clamp(1.0, float(self.most)))

    def settle(self, width: int) -> None:
        """Fixes it at a whole number."""
        with torch.no_grad():
            self.value.fill_(float(width))
            self.fixed.fill_(width)
        self.value.requires_grad_(False)
        self.value.grad = None


def settled_widths(values: list[float], shares: list[float], target: float, most: Sequence[int]) -> list[int]:
    """Whole numbers near real ones with a mean of at most a target, if 1 everywhere allows it.

    Each is rounded. While the mean is above the target, the one that lies most below its whole number gives one up;
    then those that lie most above theirs get one more each, where the mean stays within the target.

    Args:
        values: the real numbers, at least 1.
        shares: what each counts in the mean; they add up to 1.
        target: the mean.
        most: the largest whole number of each.
    """
    widths = [round(value) for value in values]

    def room() -> float:
        return target + 1e-9 - sum(width * share for width, share in zip(widths, shares, strict=True))

    while room() < 0 and any(width > 1 for width in widths):
        wide = [index for index, width in enumerate(widths) if width > 1]
        widths[min(wide, key=lambda index: values[index] - widths[index])] -= 1
    for index in sorted(range(len(values)), key=lambda index: widths[index] - values[index]):
        if values[index] > widths[index] < most[index] and shares[index] <= room():
            widths[index] += 1
    return widths
