"""The moving average of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """m ← d·m + (1 − d)·w of parameters w, after every step; early on with a smaller decay d.

    d is (1 + n)/(10 + n) after n steps where that is smaller, so that the first parameters are soon forgotten.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        """Starts from parameters as they are.

        Args:
            parameters: those to average.
            decay: d; 0: nothing is averaged.
        """
        self._parameters = list(parameters)
        self._decay, self._steps = decay, 0
        self._means = [parameter.detach().clone() for parameter in self._parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the parameters after a step."""
        if self._means:
            self._steps += 1
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
            torch._foreach_lerp_(self._means, [parameter.detach() for parameter in self._parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages are the parameters while the context lasts."""
        if not self._means:
            yield
            return
        own = [parameter.detach().clone() for parameter in self._parameters]
        self._assign(self._means)
        try:
            yield
        finally:
            self._assign(own)

    def keep(self) -> None:
        """Makes the averages the parameters."""
        if self._means:
            self._assign(self._means)

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

    def state(self) -> dict[str, object]:
        """What :meth:`load` reads."""
        return {"steps": self._steps, "means": [mean.clone() for mean in self._means]}

    def load(self, state: dict[str, object]) -> None:
        """Goes on from a saved state."""
        steps, means = state["steps"], state["means"]
        assert isinstance(steps, int)
        assert isinstance(means, list)
        self._steps, self._means = steps, [mean.clone() for mean in means]
