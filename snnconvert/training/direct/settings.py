"""What directly trained neurons may be told."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import MAX_SPIKE_BITS, MAX_STEPS, check_range
from snnconvert.trainable.surrogate import Surrogate
from snnconvert.training.direct.steps import rectified_step

NEURONS = ("if", "lif", "packed")


@dataclass(frozen=True)
class NeuronSettings:
    """One kind of neuron, its window, and how it is trained.

    Attributes:
        kind: "if" (integrate-and-fire, τ = 1), "lif" (leaky, τ below 1) or "packed" (the T spikes of b bits are
            one word).
        bits: b_s, bits of one spike, 1..8.
        T: time steps.
        tau: τ, what is left of the potential after one step; only "lif" has it, above 0 and below 1.
        threshold: θ at the start; None: that of least squared error for max(x, 0), x ~ N(0, 1), if x is a constant
            current and its window T steps long, which suits currents behind a BatchNorm.
        learned_threshold: whether θ is trained along.
        surrogate: slope of binary spikes; only used at one bit by "if" and "lif".
        truncation: k: no gradient goes back through the membrane beyond steps k, 2k, …; None: full backpropagation
            through time. "packed" has no membrane that goes from step to step, and refuses it.

    Raises:
        ConfigurationError: naming the field that is out of range.
    """

    kind: str = "lif"
    bits: int = 1
    T: int = 4
    tau: float = 0.5
    threshold: float | None = None
    learned_threshold: bool = True
    surrogate: Surrogate = dataclasses.field(default_factory=Surrogate)
    truncation: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in NEURONS:
            raise ConfigurationError(f"neuron must be one of {', '.join(NEURONS)}, got {self.kind!r}")
        check_range(self.bits, 1, MAX_SPIKE_BITS, "bits")
        check_range(self.T, 1, MAX_STEPS, "T")
        if self.kind == "packed" and self.bits * self.T > MAX_SPIKE_BITS:
            raise ConfigurationError(
                f"packed neurons hold words of up to {MAX_SPIKE_BITS} bits, got bits·T = {self.bits * self.T}"
            )
        if self.kind == "lif" and not (isinstance(self.tau, float) and 0 < self.tau < 1):
            raise ConfigurationError(f"lif: tau must lie between 0 and 1, got {self.tau!r}; without a leak use 'if'")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise ConfigurationError(f"threshold must be positive or None, got {self.threshold!r}")
        if self.truncation is not None:
            if self.kind == "packed":
                raise ConfigurationError("packed neurons have no membrane from step to step: leave truncation at None")
            check_range(self.truncation, 1, MAX_STEPS, "truncation")

    @property
    def retained(self) -> float:
        """τ as the membrane has it: 1 without a leak."""
        return self.tau if self.kind == "lif" else 1.0

    @property
    def largest(self) -> int:
        """The largest spike 2^b − 1, or the largest word 2^(b·T) − 1."""
        return int(2 ** (self.bits * (self.T if self.kind == "packed" else 1))) - 1

    @property
    def first_threshold(self) -> float:
        """θ at the start: T·Δ with Δ of the window's T·(2^b − 1) levels, Δ of its 2^(b·T) − 1 for "packed"."""
        if self.threshold is not None:
            return float(self.threshold)
        if self.kind == "packed":
            return rectified_step(self.bits * self.T)
        return self.T * rectified_step(self.bits, self.T)
