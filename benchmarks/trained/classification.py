"""Classifiers, which are judged by their accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.trained.task import Calibration, Figures, Task
from snnconvert.evaluation import compare

LabelledBatches = Iterable[tuple[Tensor, Tensor]]


def classifier_task(
    name: str,
    ann: nn.Module,
    calibration: Callable[[], Calibration],
    described: str,
    batches: Callable[[], LabelledBatches],
) -> Task:
    """A classifier that is judged by its top-1 accuracy on labelled images.

    Args:
        name: the network's name in the results.
        ann: the network.
        calibration: gives images to calibrate on.
        described: what these are.
        batches: gives (images, labels) to evaluate on.
    """
    return Task(name, "accuracy", ann, [calibration], described, partial(_top1, ann, batches))


def split_batches(images: Tensor, labels: Tensor, size: int) -> LabelledBatches:
    """(images, labels) of at most so many images."""
    return zip(torch.split(images, size), torch.split(labels, size), strict=True)


def _top1(ann: nn.Module, batches: Callable[[], LabelledBatches], snns: Sequence[nn.Module]) -> Figures:
    (snn,) = snns
    evaluation = compare(ann, snn, batches())
    metric = evaluation.metric()
    agreement = evaluation.fidelity("test images").top1_agreement
    return Figures(metric.ann, metric.snn, metric.images, {"agreement": agreement}, metric.difference_ci95)
