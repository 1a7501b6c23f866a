"""Evaluation: ANN and SNN on the same images, as counts that don't depend on batching."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.convert.structure import flatten
from snnconvert.errors import InputError
from snnconvert.report.schema import Fidelity, Metric
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
        signal: Σ of squared ANN outputs, over all floating ones with a batch.
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
        return compare_outputs((len(images), ann(images), snn(images), labels) for images, labels in batches)


def compare_outputs(outputs: Iterable[tuple[int, Any, Any, Tensor | None]]) -> Evaluation:
    """Counts over (number of images, ANN output, SNN output, labels or None) of batches; see :func:`compare`.

    An output is a tensor or a structure of tensors, of which those without a batch don't count. Decisions are
    those of the only floating tensor, or of the one called "logits"; a network that returns integers alone has
    decided itself.

    Raises:
        InputError: as :func:`compare`.
    """
    batches = [
        _compared(images, _pairs(ann_output, snn_output), labels)
        for images, ann_output, snn_output, labels in outputs
        if images > 0
    ]
    if not batches:
        raise InputError("there are no images to evaluate on")
    shares = [batch.agreeing for batch in batches]
    return Evaluation(
        images=sum(batch.images for batch in batches),
        agreeing=None if None in shares else sum(share for share in shares if share is not None),
        both=sum(batch.both for batch in batches),
        only_ann=sum(batch.only_ann for batch in batches),
        only_snn=sum(batch.only_snn for batch in batches),
        signal=sum(batch.signal for batch in batches),
        noise=sum(batch.noise for batch in batches),
    )


@dataclass(frozen=True)
class _Pair:
    """One tensor of the output, of both networks; ``key`` is its name or position."""

    key: object
    reference: Tensor
    value: Tensor

    @property
    def is_floating(self) -> bool:
        return self.reference.is_floating_point()

    def decisions(self) -> tuple[Tensor, Tensor]:
        """The largest entry of dimension 1; of integers the integers; [N, ...]."""
        if not self.is_floating:
            return self.reference, self.value
        both = (
            (self.reference, self.value) if self.reference.dim() > 1 else (self.reference[:, None], self.value[:, None])
        )
        return both[0].argmax(1), both[1].argmax(1)


def _pairs(ann_output: Any, snn_output: Any) -> list[_Pair]:
    references, structure = flatten(ann_output, "the ANN's output")
    values, _ = flatten(snn_output, "the SNN's output")
    return [
        _Pair(path[-1] if path else None, reference, value)
        for path, reference, value in zip(structure.paths(), references, values, strict=True)
    ]


def _compared(images: int, outputs: Sequence[_Pair], labels: Tensor | None) -> Evaluation:
    pairs = [pair for pair in outputs if pair.reference.dim() > 0 and len(pair.reference) == images]
    floating = [(pair.reference.double(), pair.value.double()) for pair in pairs if pair.is_floating]
    signal = sum(float(reference.square().sum()) for reference, _ in floating)
    noise = sum(float((reference - value).square().sum()) for reference, value in floating)
    deciding = _deciding(pairs)
    if deciding is None:
        if labels is not None:
            raise InputError("evaluation needs logits [N, classes], the network returns several outputs")
        return Evaluation(images, None, 0, 0, 0, signal, noise)
    ann, snn = deciding.decisions()
    agreeing = float((ann == snn).reshape(images, -1).double().mean(1).sum())
    if labels is None:
        return Evaluation(images, agreeing, 0, 0, 0, signal, noise)
    return Evaluation(images, agreeing, *_right(deciding, ann, snn, labels), signal, noise)


def _deciding(pairs: Sequence[_Pair]) -> _Pair | None:
    """The tensor that holds the decisions, if it is clear which one does."""
    floating = [pair for pair in pairs if pair.is_floating] or list(pairs)
    if len(floating) == 1:
        return floating[0]
    logits = [pair for pair in floating if pair.key == "logits" and pair.reference.dim() == 2]
    return logits[0] if len(logits) == 1 else None


def _right(deciding: _Pair, ann: Tensor, snn: Tensor, labels: Tensor) -> tuple[int, int, int]:
    """Images both, only the ANN and only the SNN get right."""
    shape = deciding.reference.shape
    if labels.shape != shape[:1]:
        raise InputError(f"{tuple(labels.shape)} labels for {shape[0]} images: give one label an image")
    if len(shape) != (2 if deciding.is_floating else 1):
        raise InputError(f"evaluation needs logits [N, classes], the network returns {tuple(shape)}")
    truth = labels.to(ann.device)
    ann, snn = ann == truth, snn == truth
    return int((ann & snn).sum()), int((ann & ~snn).sum()), int((snn & ~ann).sum())
