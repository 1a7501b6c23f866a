"""Steps of words that meet in sums: a few bits apart, so that one of the words enters the sum as it is.

z_a·Δ_a + z_b·Δ_b, read by neurons with step Δ, is ((Δ_a/Δ_b)·z_a + z_b)·(Δ_b/Δ). Where Δ_a/Δ_b and Δ_b/Δ are numbers
of 8 bits, that is exact in float32 in this very order, which is how runtimes add bytes inside a convolution's kernel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.threshold import Threshold

_BITS = 8
_LEVELS = 1 << _BITS
_TOLERANCE = 1e-6
_LARGEST_BYTE = 255.0


def aligned_sums(
    graph: fx.Graph, plan: Plan, thresholds: Mapping[int, Threshold], kept: frozenset[int] = frozenset()
) -> dict[int, Threshold]:
    """Thresholds with Δ_a' = Δ_b·q, q the next number of 8 bits above Δ_a/Δ_b, and Δ' = Δ_b/p, p that below Δ_b/Δ.

    Of the q above it is the first that divisions keep, up to a 29th larger; no other step grows by more than a 128th.
    Sums of words with a step a channel stay as they are.

    Args:
        graph: the canonical graph.
        plan: its plan.
        thresholds: threshold of each family of sites.
        kept: families whose thresholds must stay.
    """
    found = dict(thresholds)
    sites = {site.node: site.family for site in plan.sites}
    readers = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    fixed = {family for family, count in Counter(site.family for site in plan.sites).items() if count > 1} | kept
    for node in graph.nodes:
        operands = [sites.get(operand.name, -1) for operand in node.all_input_nodes]
        if kind_of(node) is not OpKind.ADD or not _can_meet(operands, found):
            continue
        other, reference = sorted(operands, key=lambda family: family in fixed)
        if other in fixed:
            continue
        base = found[reference].step
        found[other] = Threshold(base * _above(found[other].step / base), found[other].code)
        fixed |= {reference, other}
        for family in [readers[user.name] for user in node.users if user.name in readers] or [sites.get(node.name, -1)]:
            if family not in fixed and has_one_step(found.get(family)):
                found[family] = Threshold(base / short_below(base / found[family].step), found[family].code)
                fixed.add(family)
    return found


def _can_meet(families: Sequence[int], thresholds: Mapping[int, Threshold]) -> bool:
    return len(set(families)) == len(families) == 2 and all(has_one_step(thresholds.get(family)) for family in families)


def common_unit(steps: Sequence[float]) -> float | None:
    """δ of which one of some steps is a power of two times, and the others whole numbers of 8 bits times; or None."""
    if not all(0 < step < math.inf for step in steps):
        return None
    for reference in reversed(steps):
        ratios = [step / reference for step in steps]
        if all(is_short(ratio) for ratio in ratios):
            return reference * 2.0 ** -max(_fraction_bits(ratio) for ratio in ratios)
    return None


def is_short(number: float) -> bool:
    """Whether a number above 0 has 8 bits and no more, to a millionth."""
    scaled = math.frexp(number)[0] * _LEVELS
    return abs(scaled - round(scaled)) < _TOLERANCE


def is_kept_by_division(gain: Tensor) -> bool:
    """Whether 255/(255/g) and 1/(1/g) are g in float32: OpenVINO turns a gain into a byte's range, and back.

    Of gains k/128 it (2026.4) breaks ties wrongly for seven mantissas, for which at least one of the two isn't g.
    """
    largest = torch.tensor(_LARGEST_BYTE)
    return bool(((largest / (largest / gain) == gain) & (1 / (1 / gain) == gain)).all())


def _fraction_bits(number: float) -> int:
    """Bits behind the point of a short number."""
    mantissa, exponent = math.frexp(number)
    whole = round(mantissa * _LEVELS)
    trailing = (whole & -whole).bit_length() - 1
    return max(_BITS - exponent - trailing, 0)


def _above(number: float) -> float:
    mantissa, exponent = math.frexp(number)
    first = math.ceil(mantissa * _LEVELS - _TOLERANCE)
    kept = next(level for level in range(first, 2 * _LEVELS) if is_kept_by_division(torch.tensor(float(level))))
    return math.ldexp(kept, exponent - _BITS)


def short_below(number: float) -> float:
    """The largest number of 8 bits that isn't above a number, but for a millionth."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(math.floor(mantissa * _LEVELS + _TOLERANCE), exponent - _BITS)


def short_above(number: float) -> float:
    """The smallest number of 8 bits that isn't below a number, but for a millionth."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(math.ceil(mantissa * _LEVELS - _TOLERANCE), exponent - _BITS)


def has_one_step(threshold: Threshold | None) -> TypeGuard[Threshold]:
    """Whether words are whole multiples of one step."""
    if threshold is None or threshold.channel_steps or isinstance(threshold.code, LogarithmicCode):
        return False
    return threshold.step > 0
