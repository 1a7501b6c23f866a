"""Which way gradients take through a spiking network: past the time steps, or through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from snnconvert.errors import ConfigurationError
from snnconvert.trainable.surrogate import Surrogate

Way = Literal["window", "time"]
WAYS: tuple[str, ...] = get_args(Way)


@dataclass(frozen=True)
class Gradients:
    """How a network in training computes, and where its gradients go.

    "window" takes one pass: neurons fire what they would for a constant current, straight-through. That is exact for
    packed neurons. "time" runs all T steps, as the stepwise engine does, and gradients go back through every one of
    them; only there do rate-coded neurons learn what the unevenness of their input costs.

    Attributes:
        through: "window" or "time".
        surrogate: the slope of binary spikes, of x = v/θ − 1; for "time".
        truncation: gradients go back through at most so many steps of a membrane, counted from the window's start in
            segments; 0: through all. For "time".
    """

    through: Way = "window"
    surrogate: Surrogate = field(default_factory=Surrogate)
    truncation: int = 0

    def __post_init__(self) -> None:
        if self.through not in WAYS:
            raise ConfigurationError(f"gradients must go through one of {', '.join(WAYS)}, got {self.through!r}")
        if isinstance(self.truncation, bool) or not isinstance(self.truncation, int) or self.truncation < 0:
            raise ConfigurationError(f"truncation must be a number of steps, 0 for all, got {self.truncation!r}")
