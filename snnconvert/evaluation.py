"""Evaluation: ANN and SNN on the same images, as counts that don't depend on batching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.convert.structure import flatten
from snnconvert.errors import InputError
from snnconvert.report.report import Fidelity, Metric
from snnconvert.report.statistics import decibels, paired_difference_ci95


@dataclass(frozen=True)
class Evaluation:
    """Counts over the images both networks have seen.

    Attributes:
        images: number of images.
        agreeing: images with the same top-1 decision; of a dense output, its share of equal positions. None
            if the networks return several tensors and none is called "logits".
        both: images both get right.
        only_ann: images only the ANN gets right.
        only_snn: images only the SNN gets right.
        signal: Σ of squared ANN outputs, over all floating ones.
        noise: Σ of squared differences of the same.
    """

    images: int
    agreeing: float | None
    both: int
    only_ann: int
    only_snn: int
    signal: float
    noise: float

    def fidelity(self, measured_on: str) -> Fidelity:
        """Agreement and logit SQNR."""
        agreement = None if self.agreeing is None else self.agreeing / self.images
        return Fidelity(agreement, decibels(self.signal, self.noise), self.images, measured_on)

    def metric(self) -> Metric:
        """Top-1 accuracies with the 95 % interval of their paired difference (SNN minus ANN)."""
        return Metric(
            name="top1",
            ann=(self.both + self.only_ann) / self.images,
            snn=(self.both + self.only_snn) / self.images,
            images=self.images,
            difference_ci95=paired_difference_ci95(self.only_ann, self.only_snn, self.images),
        )


def compare(ann: nn.Module, snn: nn.Module, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Evaluation:
    """Runs both networks on every batch and counts.

    Args:
        ann: the original network, in evaluation mode.
        snn: the converted one.
        batches: (images [N, ...], labels int64 [N] or None); a label below 0 counts as wrong for both.

    Raises:
        InputError: if there are no images, or labels but no output [N, classes].
    """
    with torch.no_grad():
        return compare_outputs((ann(images), snn(images), labels) for images, labels in batches)


def compare_outputs(outputs: Iterable[tuple[Any, Any, Tensor | None]]) -> Evaluation:
    """Counts over (ANN output, SNN output, labels or None) of batches; see :func:`compare`.

    An output is a tensor or a structure of tensors. Decisions are those of the only floating tensor, or of
    the one called "logits".
    """
    counts = [0, 0, 0, 0]
    agreeing = signal = noise = 0.0
    is_defined = True
    for ann_output, snn_output, labels in outputs:
        references, values, which = _floating(ann_output, snn_output)
        if len(references[0]) == 0:
            continue
        signal += sum(float(reference.square().sum()) for reference in references)
        noise += sum(
            float((reference - value).square().sum()) for reference, value in zip(references, values, strict=True)
        )
        if which is None:
            if labels is not None:
                raise InputError("evaluation needs logits [N, classes], the network returns several outputs")
            is_defined = False
            counts[0] += len(references[0])
            continue
        reference, output = references[which], values[which]
        if labels is not None and labels.shape != reference.shape[:1]:
            raise InputError(f"{tuple(labels.shape)} labels for {len(reference)} images: give one label an image")
        if output.dim() < 2 and labels is None:
            reference, output = reference.unsqueeze(1), output.unsqueeze(1)
        if labels is not None and output.dim() != 2:
            raise InputError(f"evaluation needs logits [N, classes], the network returns {tuple(output.shape)}")
        equal = (reference.argmax(1) == output.argmax(1)).reshape(len(reference), -1)
        agreeing += float(equal.double().mean(1).sum())
        counts = [sum(pair) for pair in zip(counts, _count(reference, output, labels), strict=True)]
    if counts[0] == 0:
        raise InputError("there are no images to evaluate on")
    images, both, only_ann, only_snn = counts
    return Evaluation(images, agreeing if is_defined else None, both, only_ann, only_snn, signal, noise)


def _floating(ann_output: Any, snn_output: Any) -> tuple[list[Tensor], list[Tensor], int | None]:
    """The floating tensors of both outputs as float64, and which of them holds the decisions."""
    references, structure = flatten(ann_output, "the ANN's output")
    values, _ = flatten(snn_output, "the SNN's output")
    kept = [
        (path, reference.double(), value.double())
        for path, reference, value in zip(structure.paths(), references, values, strict=True)
        if reference.is_floating_point()
    ]
    if not kept:
        raise InputError("the networks return no floating tensor to compare")
    logits = [place for place, (path, _, _) in enumerate(kept) if path and path[-1] == "logits"]
    which = 0 if len(kept) == 1 else logits[0] if len(logits) == 1 else None
    if which is not None and len(kept) > 1 and kept[which][1].dim() != 2:
        which = None
    return [reference for _, reference, _ in kept], [value for _, _, value in kept], which


def _count(reference: Tensor, output: Tensor, labels: Tensor | None) -> tuple[int, int, int, int]:
    """Images, and those both, only the ANN and only the SNN get right."""
    if labels is None:
        return len(reference), 0, 0, 0
    truth = labels.to(reference.device)
    ann, snn = reference.argmax(1) == truth, output.argmax(1) == truth
    return len(reference), int((ann & snn).sum()), int((ann & ~snn).sum()), int((snn & ~ann).sum())
