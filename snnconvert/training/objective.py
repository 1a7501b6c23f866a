"""What fine-tuning minimizes: cross-entropy with the labels and distance from the ANN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.convert.structure import flatten, unflatten
from snnconvert.errors import InputError
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.mixing import Mixing

_TINY = 1e-12

Distance = Callable[[Any, Any], Tensor]
"""Takes what the network and what the ANN give for a batch, and gives a scalar to minimize."""


def divergence(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """τ²·KL(softmax(r/τ) ‖ softmax(y/τ)), the mean over samples and positions (Hinton et al., 2015).

    Args:
        logits: y [N, classes, ...].
        reference: r, of the same shape.
        temperature: τ.
    """
    student = F.log_softmax(logits.float() / temperature, 1)
    teacher = F.log_softmax(reference.float() / temperature, 1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1).mean()


def spreads(reference: Any) -> list[float]:
    """Variance of each floating output of the ANN, what :func:`value_error` is relative to."""
    return [max(float(output.double().var(unbiased=False)), _TINY) for output in floating(reference)]


def value_error(values: Sequence[Tensor], references: Sequence[Tensor], variances: Sequence[float]) -> Tensor:
    """Mean of (y − r)²/σ², the mean over outputs: each counts alike, whatever its size and unit.

    Args:
        values: y, the network's outputs.
        references: r, the ANN's, of the same shapes.
        variances: σ² of each.
    """
    terms = [
        (value.float() - reference.float()).square().mean() / variance
        for value, reference, variance in zip(values, references, variances, strict=True)
    ]
    return torch.stack(terms).mean()


class Objective:
    """(1 − d)·CE + d·τ²·KL of logits; of outputs that are values the error relative to the ANN's variance."""

    def __init__(self, config: FinetuneConfig, example: Any = None, distance: Distance | None = None) -> None:
        """Decides how outputs are compared.

        Args:
            config: for d, τ and the comparison.
            example: what the ANN gives for a few samples; None: there is no ANN.
            distance: of both networks' outputs, in place of the configured comparison.
        """
        self._config, self._told = config, distance
        several = example is not None and len(floating(example)) > 1
        is_values = config.matching == "values" or (config.matching == "auto" and several)
        self._variances = spreads(example) if is_values and example is not None else None

    def __call__(self, output: Any, labels: Tensor | None, reference: Any, mixing: Mixing | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            output: what the network gives: logits [N, classes, ...], or a structure of tensors.
            labels: int64 [N, ...], or None; of [N] labels those below 0 are none: such a sample learns from the ANN
                alone, if at all.
            reference: what the ANN gives, or None.
            mixing: what was mixed into the samples: the cross-entropy is λ·CE(labels) + (1 − λ)·CE(those mixed in).

        Raises:
            InputError: if there are neither labels nor an ANN, or not for all samples; a label names no class, or
                there are labels and several outputs.
        """
        if labels is not None and labels.dim() == 1 and bool((labels < 0).any()):
            return self._partly_labelled(output, labels, reference, mixing)
        if labels is None and reference is None:
            raise InputError("there is nothing to learn from: give labels, an ANN to distil from, or both")
        outputs = floating(output)
        share = 0.0 if reference is None else 1.0 if labels is None else self._config.distillation
        total = torch.zeros((), device=outputs[0].device)
        if labels is not None and share < 1:
            total = total + (1 - share) * _cross_entropy(outputs, labels, mixing)
        if reference is not None and share > 0:
            told = self._told
            apart = self._distance(outputs, floating(reference)) if told is None else told(output, reference)
            total = total + share * apart
        return total

    def _partly_labelled(self, output: Any, labels: Tensor, reference: Any, mixing: Mixing | None) -> Tensor:
        """The mean over all samples of a batch of which some have no label."""
        known, unknown = (labels >= 0).nonzero().flatten(), (labels < 0).nonzero().flatten()
        if reference is None:
            raise InputError("some training samples have no label: give an ANN to learn them from, or leave them out")
        rest = len(unknown) / len(labels) * self(_rows(output, unknown), None, _rows(reference, unknown))
        if not len(known):
            return rest
        mixed = None if mixing is None else mixing.each(itemgetter(known))
        labelled = self(_rows(output, known), labels[known], _rows(reference, known), mixed)
        return len(known) / len(labels) * labelled + rest

    def _distance(self, outputs: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
        if self._variances is not None:
            return value_error(outputs, references, self._variances)
        pairs = zip(outputs, references, strict=True)
        return torch.stack([divergence(*pair, self._config.temperature) for pair in pairs]).mean()


def floating(output: Any) -> list[Tensor]:
    """The floating tensors of an output.

    Raises:
        InputError: if there are none.
    """
    leaves, _ = flatten(output, "the network's output")
    found = [leaf for leaf in leaves if leaf.is_floating_point()]
    if not found:
        raise InputError("the network gives no floating point outputs: there is nothing to train")
    return found


def _rows(output: Any, samples: Tensor) -> Any:
    """What a network gives for some samples of a batch."""
    leaves, structure = flatten(output, "the network's output")
    return unflatten(structure, [leaf[samples] for leaf in leaves])


def _cross_entropy(outputs: Sequence[Tensor], labels: Tensor, mixing: Mixing | None) -> Tensor:
    if len(outputs) > 1:
        raise InputError(
            f"the network gives {len(outputs)} outputs, labels belong to one: leave labels out and distil from the "
            "ANN, or train in a loop of your own"
        )
    (logits,) = outputs
    if mixing is None or mixing.labels is None:
        return _entropies(logits, labels).mean()
    own, other = _entropies(logits, labels), _entropies(logits, mixing.labels)
    return (mixing.shares * own + (1 - mixing.shares) * other).mean()


def _entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each sample [N]."""
    if int(labels.max()) >= logits.shape[1] or int(labels.min()) < 0:
        raise InputError(f"labels must lie in 0..{logits.shape[1] - 1}, got {int(labels.min())}..{labels.max()}")
    return F.cross_entropy(logits.float(), labels, reduction="none").view(len(labels), -1).mean(1)
