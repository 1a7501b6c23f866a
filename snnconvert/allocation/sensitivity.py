"""Sensitivities: how much the network's output changes if one width alone is lowered.

    Ω_w(layer, b_w) = E‖z(only its weights at b_w bits) − z‖² / E‖z‖²,   Ω_a(group, b_s·T) likewise of its words

on a fixed sample, averaged over the floating outputs. Thresholds and roundings are those of the conversion
itself (for gptq the second moments of the ANN's own inputs), and channel means are corrected as it does.
Training-free allocation by these figures is a reconstruction; see also mixed-precision quantization.

Around an allocation the sum of these Ω misses that errors meet: :func:`corrected` measures, with everything at
the allocation, what one step up and one step down in each width really changes, and scales each Ω to that.
"""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.allocation.interpolate import completed
from snnconvert.allocation.laboratory import Laboratory
from snnconvert.allocation.problem import FloatArray, Solution
from snnconvert.allocation.twin import Quantization

_MOST_CHANGE = 4.0
_TRUST = 0.5


@dataclass(frozen=True)
class Sensitivity:
    """Predicted errors.

    Attributes:
        words: Ω_a of each group, one per option.
        weights: Ω_w of each layer, one per option.
    """

    words: tuple[FloatArray, ...]
    weights: tuple[FloatArray, ...]


def measured_sensitivity(laboratory: Laboratory) -> Sensitivity:
    """Ω of every group and layer, by one streaming pass of perturbations over the ANN.

    Each perturbation runs the ANN from the perturbed node on. Of a big network some widths are measured and
    the others interpolated in log Ω; see :class:`~snnconvert.allocation.laboratory.Laboratory`.
    """
    keys = [("words", g, option) for g, options in enumerate(laboratory.word_options) for option in options]
    keys += [("weights", index, bits) for index, options in enumerate(laboratory.weight_options) for bits in options]
    changes = [_change(laboratory, *key) for key in keys]
    errors = dict(zip(keys, laboratory.errors(Quantization(), changes, "measuring sensitivities"), strict=True))
    groups = laboratory.groups

    def table(kind: str, index: int, measured: tuple[int, ...], options: tuple[int, ...]) -> FloatArray:
        return completed({option: errors[kind, index, option] for option in measured}, options)

    return Sensitivity(
        tuple(
            table("words", index, laboratory.word_options[index], group.options)
            for index, group in enumerate(groups.words)
        ),
        tuple(
            table("weights", index, laboratory.weight_options[index], layer.options)
            for index, layer in enumerate(groups.layers)
        ),
    )


def corrected(laboratory: Laboratory, sensitivity: Sensitivity, solution: Solution) -> Sensitivity:
    """The sensitivities scaled to what single steps change around an allocation.

    With M(±1) the error of the whole network with one width a step up or down and everything else at the
    allocation, group by group Ω ← Ω·(r)^½, r = (M(−1) − M(+1)) / (Ω(−1) − Ω(+1)), at most fourfold; the square
    root, since errors that meet on a small sample make single r noisy. This scheme is the package's own.
    """
    groups = laboratory.groups
    options = [*(group.options for group in groups.words), *(layer.options for layer in groups.layers)]
    tables = [*sensitivity.words, *sensitivity.weights]
    picked = [*solution.words, *solution.weights]
    steps = [
        (index, at)
        for index, (widths, option) in enumerate(zip(options, picked, strict=True))
        for at in (option - 1, option + 1)
        if 0 <= at < len(widths)
    ]
    count = len(groups.words)
    changes = [
        _change(laboratory, "words", index, options[index][at])
        if index < count
        else _change(laboratory, "weights", index - count, options[index][at])
        for index, at in steps
    ]
    base = laboratory.of_solution(solution)
    here, *around = laboratory.errors(base, [Quantization(), *changes], "measuring around the allocation")
    measured = dict(zip(steps, around, strict=True))
    scaled = []
    for index, (table, option) in enumerate(zip(tables, picked, strict=True)):
        low, high = max(option - 1, 0), min(option + 1, len(table) - 1)
        change = measured.get((index, low), here) - measured.get((index, high), here)
        scaled.append(table * _factor(change, float(table[low] - table[high])))
    return Sensitivity(tuple(scaled[:count]), tuple(scaled[count:]))


def _factor(measured: float, predicted: float) -> float:
    if predicted <= 0:
        return 1.0
    ratio = min(max(measured / predicted, 1 / _MOST_CHANGE), _MOST_CHANGE)
    return float(ratio**_TRUST)


def _change(laboratory: Laboratory, kind: str, index: int, option: int) -> Quantization:
    return laboratory.words(index, option) if kind == "words" else laboratory.weights(index, option)
