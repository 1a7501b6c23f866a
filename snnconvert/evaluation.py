"""Evaluation: ANN and SNN on the same images, as counts that don't depend on batching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.report.report import Fidelity, Metric
from snnconvert.report.statistics import decibels, paired_difference_ci95


@dataclass(frozen=True)
class Evaluation:
    """Counts over the images both networks have seen.

    Attributes:
        images: number of images.
        agreeing: images with the same top-1 decision; of a dense output, its share of equal positions.
        both: images both get right.
        only_ann: images only the ANN gets right.
        only_snn: images only the SNN gets right.
        signal: Σ of squared ANN logits.
        noise: Σ of squared logit differences.
    """

    images: int
    agreeing: float
    both: int
    only_ann: int
    only_snn: int
    signal: float
    noise: float

    def fidelity(self, measured_on: str) -> Fidelity:
        """Agreement and logit SQNR."""
        return Fidelity(self.agreeing / self.images, decibels(self.signal, self.noise), self.images, measured_on)

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


def compare_outputs(outputs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Evaluation:
    """Counts over (ANN output, SNN output, labels or None) of batches; see :func:`compare`."""
    counts = [0, 0, 0, 0]
    agreeing = signal = noise = 0.0
    for ann_output, snn_output, labels in outputs:
        reference, output = ann_output.double(), snn_output.double()
        if len(reference) == 0:
            continue
        if labels is not None and labels.shape != reference.shape[:1]:
            raise InputError(f"{tuple(labels.shape)} labels for {len(reference)} images: give one label an image")
        if output.dim() < 2 and labels is None:
            reference, output = reference.unsqueeze(1), output.unsqueeze(1)
        if labels is not None and output.dim() != 2:
            raise InputError(f"evaluation needs logits [N, classes], the network returns {tuple(output.shape)}")
        equal = (reference.argmax(1) == output.argmax(1)).reshape(len(reference), -1)
        agreeing += float(equal.double().mean(1).sum())
        signal += float(reference.square().sum())
        noise += float((reference - output).square().sum())
        counts = [sum(pair) for pair in zip(counts, _count(reference, output, labels), strict=True)]
    if counts[0] == 0:
        raise InputError("there are no images to evaluate on")
    images, both, only_ann, only_snn = counts
    return Evaluation(images, agreeing, both, only_ann, only_snn, signal, noise)


def _count(reference: Tensor, output: Tensor, labels: Tensor | None) -> tuple[int, int, int, int]:
    """Images, and those both, only the ANN and only the SNN get right."""
    if labels is None:
        return len(reference), 0, 0, 0
    truth = labels.to(reference.device)
    ann, snn = reference.argmax(1) == truth, output.argmax(1) == truth
    return len(reference), int((ann & snn).sum()), int((ann & ~snn).sum()), int((snn & ~ann).sum())
