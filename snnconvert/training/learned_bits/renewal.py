"""Steps searched anew where a width has changed, and when that ends."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconvert.training.learned_bits.quantizer import Levels

_POWER = 2.4
_SMALLEST_STEP = 1e-5


def searched_step(values: Tensor, levels: Levels, trials: int) -> Tensor:
    """The step of least mean |Q(x) − x|^2.4 among ranges i/N·(x_max − x_min), i = 1..N; float [C], at least 1e-5.

    A range R of symmetric weights is [−R, R], with the step R/q; any other covers n_high − n_low steps.

    Source: Yao et al. (2025), the search that their code has for spikes and linear weights. For convolutions it scales
    the step by the ratio of the numbers of levels the wrong way round; here all steps are searched. Their code also
    keeps the widest range of all renewals; here each width takes the best one of its own.

    Args:
        values: [C, n], each row with a step of its own.
        levels: the integers.
        trials: N.
    """
    symmetric = levels.low == -levels.high
    extent = values.abs().amax(1) if symmetric else values.amax(1) - values.amin(1)
    span = levels.high if symmetric else levels.high - levels.low
    best = (extent / span).clamp(min=_SMALLEST_STEP)
    least = torch.full_like(best, torch.inf)
    for index in range(1, trials + 1):
        step = (extent * (index / trials) / span).clamp(min=_SMALLEST_STEP)
        column = step[:, None]
        error = (levels.nearest(values / column).mul_(column) - values).abs_().pow_(_POWER).mean(1)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best


def is_near(mean: float, target: float, initial: float, margin: float) -> bool:
    """|mean − target| < margin·|initial − target|: near enough for renewals to end (Yao et al., 2025: margin 0.24)."""
    return abs(mean - target) < margin * abs(initial - target)
