"""What training may be told about the widths it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import MAX_SPIKE_BITS, check_range
from snnconvert.neurons.weight_integers import MOST_WEIGHT_BITS
from snnconvert.neurons.word import MAX_WORD_BITS

Weighting = Literal["numel", "macs"]
WEIGHTINGS = ("numel", "macs")


@dataclass(frozen=True)
class LearnedBitsConfig:
    """Settings of learned widths.

    The loss gains p_w·|b̄_w − tar_w| + p_s·|b̄_s − tar_s| + p_T·|T̄ − tar_T| (Yao et al., 2025), the means over the inner
    layers. The paper's penalties are 0.01 to 0.04, for 200 epochs; in short trainings only larger ones bind.

    Attributes:
        target_weight_bits: tar_w.
        target_spike_bits: tar_s.
        target_T: tar_T.
        weight_penalty: p_w.
        spike_penalty: p_s.
        T_penalty: p_T.
        initial_weight_bits: weight bits the inner layers start at; None: the plan's.
        initial_spike_bits: spike bits their neurons start at; None: the plan's.
        initial_T: time steps they start at; None: the plan's.
        weighting: what the means weigh layers by: "numel", weights of a layer and values it reads, as in the paper; or
            "macs", multiply-accumulates, as the bit budget of the report does.
        renewal_trials: ranges tried where a step is searched anew, because a width has changed.
        renewal_share: share of the training after which a kind of widths is no longer renewed, once its mean is near.
        renewal_margin: how near: |mean − target| < margin·|initial mean − target|.
        settle_share: share of the training after which the widths stay as they are, their means at most the
            targets; what is left trains weights and steps alone.
        learn_widths: False trains weights and steps at the initial widths.
    """

    target_weight_bits: float = 3.0
    target_spike_bits: float = 2.0
    target_T: float = 1.0
    weight_penalty: float = 1.0
    spike_penalty: float = 1.0
    T_penalty: float = 1.0
    initial_weight_bits: int | None = None
    initial_spike_bits: int | None = None
    initial_T: int | None = None
    weighting: Weighting = "numel"
    renewal_trials: int = 100
    renewal_share: float = 0.4
    renewal_margin: float = 0.24
    settle_share: float = 0.6
    learn_widths: bool = True

    def __post_init__(self) -> None:
        for name, most in (
            ("target_weight_bits", MOST_WEIGHT_BITS),
            ("target_spike_bits", MAX_SPIKE_BITS),
            ("target_T", 1024),
        ):
            _check_number(getattr(self, name), name, 1.0, most)
        for name in ("weight_penalty", "spike_penalty", "T_penalty", "renewal_margin"):
            _check_number(getattr(self, name), name, 0.0, math.inf)
        for name in ("renewal_share", "settle_share"):
            _check_number(getattr(self, name), name, 0.0, 1.0)
        for name, most in (
            ("initial_weight_bits", MOST_WEIGHT_BITS),
            ("initial_spike_bits", MAX_SPIKE_BITS),
            ("initial_T", MAX_WORD_BITS),
        ):
            if getattr(self, name) is not None:
                check_range(getattr(self, name), 1, most, name)
        check_range(self.renewal_trials, 2, 10_000, "renewal_trials")
        if self.weighting not in WEIGHTINGS:
            raise ConfigurationError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {self.weighting!r}")
        if not isinstance(self.learn_widths, bool):
            raise ConfigurationError(f"learn_widths must be true or false, got {self.learn_widths!r}")


def _check_number(value: object, name: str, low: float, high: float) -> None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not known or not low <= value <= high:  # type: ignore[operator]
        raise ConfigurationError(f"{name} must lie in {low:g}..{high:g}, got {value!r}")
