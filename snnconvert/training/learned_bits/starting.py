"""The widths that learning starts at, and how far they may grow."""

from __future__ import annotations

from snnconvert.convert.plan import Plan
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold
from snnconvert.neurons.weight_integers import MOST_WEIGHT_BITS
from snnconvert.neurons.word import MAX_WORD_BITS
from snnconvert.training.learned_bits.layout import SpikeGroup, WeightGroup
from snnconvert.training.learned_bits.site import SpikeWidth
from snnconvert.training.learned_bits.width import Width

_WIDER = 2  # Yao et al. (2025)


def check_codes(plan: Plan) -> None:
    """Refuses neurons whose widths can't be learned.

    Raises:
        ConfigurationError: naming the layer.
    """
    for site in plan.sites:
        code = site.code
        packed = isinstance(code, PackedCode)
        if not packed and not (isinstance(code, IntegrateAndFireCode) and code.reset == "soft"):
            raise ConfigurationError(
                f'{site.layer}: widths are learned for packed neurons and for "if" with soft reset, not for {code.name}'
            )


def weight_width(group: WeightGroup, told: int | None) -> Width:
    """b_w of a group: what it is told to start at, or the plan's; at most 2 more."""
    bits = group.bits if told is None or not group.learned else told
    return Width(bits, min(bits + _WIDER, MOST_WEIGHT_BITS), learned=group.learned)


def spike_width(plan: Plan, group: SpikeGroup, bits: int | None, T: int | None) -> SpikeWidth:
    """b_s and T of a group: what they are told to start at, or the plan's; at most 2 bits and one step more.

    Raises:
        ConfigurationError: if they would exceed a packed word.
    """
    packed = all(isinstance(site.code, PackedCode) for site in plan.sites if site.family in group.families)
    bits = group.bits if bits is None or not group.learned else bits
    T = group.T if T is None or not group.learned else T
    if group.learned and packed and bits * T > MAX_WORD_BITS:
        raise ConfigurationError(f"initial spike bits {bits} x T {T} exceed the {MAX_WORD_BITS} bits of a packed word")
    most_T = min(T + 1, MAX_WORD_BITS) if packed else T + 1
    return SpikeWidth(
        Width(bits, min(bits + _WIDER, MAX_WORD_BITS), learned=group.learned),
        Width(T, most_T, learned=group.learned),
        packed=packed,
    )


def fixed_width(threshold: Threshold) -> SpikeWidth:
    """The widths of neurons that keep those they were calibrated for."""
    code = threshold.code
    packed = isinstance(code, PackedCode)
    return SpikeWidth(Width(code.bits, code.bits, learned=False), Width(code.T, code.T, learned=False), packed=packed)
