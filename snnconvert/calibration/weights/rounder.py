"""Rounds a network's weights anew, layer by layer, on what each layer really sees and should give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snnconvert.calibration.weights.gptq import MomentSums, best_strength, rounded
from snnconvert.calibration.weights.patches import patches_in_parts
from snnconvert.neurons.synapse import Synapse


class WeightRounder:
    """Gives synapses the integers of :func:`~snnconvert.calibration.weights.gptq.rounded`, one after another."""

    def __init__(self, weights: Callable[[str], Tensor]) -> None:
        """Takes the ANN's weights.

        Args:
            weights: of a node's name in the ANN's graph, its weights in units of its input's step, [O, ...].
        """
        self._weights = weights

    def round(self, source: str, synapse: Synapse, words: Tensor, expected: Tensor) -> None:
        """Sets a synapse's weights in place; transposed convolutions keep the nearest integers.

        Args:
            source: the synapse's node in the ANN's graph.
            synapse: the synapse.
            words: its input.
            expected: what the ANN's layer gives, real numbers in the shape of the synapse's output.
        """
        geometry = synapse.geometry
        if geometry is not None and geometry.transposed:
            return
        groups = 1 if geometry is None else geometry.groups
        scale = (synapse.unit * synapse.multiplier).view(groups, -1, 1)
        weight = self._weights(source).to(words.device).double().view(*scale.shape[:2], -1) / scale
        middle = len(words) // 2
        halves = [
            _moment_sums(synapse, weight, scale, words[part], expected[part])
            for part in (slice(middle), slice(middle, None))
            if len(words[part]) > 0
        ]
        whole, strength = halves[0], 1.0
        if len(halves) > 1:
            whole = halves[0].joined(halves[1])
            strength = best_strength(*(half.moments() for half in halves))
        integers = rounded(weight, whole.moments(), synapse.widths.view(weight.shape[:2]), strength)
        synapse.weight.copy_(integers.view(synapse.weight.shape).to(torch.int8))
        synapse.prepare()


def _moment_sums(synapse: Synapse, weight: Tensor, scale: Tensor, words: Tensor, expected: Tensor) -> MomentSums:
    """Of weights [G, O, I] in counts of a scale [G, O, 1], what some samples tell."""
    groups, outputs, inputs = weight.shape
    sums = MomentSums(groups, inputs, outputs, words.device)
    for part, x in patches_in_parts(words, synapse.weight.shape, synapse.geometry):
        wanted = expected[part].movedim(synapse.channel_axis(expected.dim()), 0).reshape(groups, outputs, -1)
        sums.update(x, (wanted / scale).float() - weight.float() @ x)
    return sums
