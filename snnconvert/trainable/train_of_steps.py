"""A window's messages kept as one tensor, so that all steps can be computed as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from snnconvert.engines.integrator import Message


class Train(dict[int, Message]):
    """Messages by tick that are parts of one tensor.

    Attributes:
        stacked: all values, [T, N, ...].
    """

    def __init__(self, ticks: Sequence[int], stacked: Tensor, constants: Sequence[Tensor | None]) -> None:
        super().__init__(
            (tick, Message(values, constant))
            for tick, values, constant in zip(ticks, stacked.unbind(), constants, strict=True)
        )
        self.stacked = stacked


def stacked(messages: Mapping[int, Message]) -> Tensor:
    """All values of a window, [T, N, ...]."""
    if isinstance(messages, Train):
        return messages.stacked
    return torch.stack([message.values for message in messages.values()])
