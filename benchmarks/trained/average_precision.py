"""Mean average precision at one IoU, by COCO's rules: greedy matching by score, 101 levels of recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

_RECALL_LEVELS = 101


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: corners [K, 4] as (x1, y1, x2, y2), classes int64 [K], scores [K] (1 for labels)."""

    corners: Tensor
    classes: Tensor
    scores: Tensor

    def of_class(self, which: int) -> Boxes:
        """Those of one class."""
        kept = self.classes == which
        return Boxes(self.corners[kept], self.classes[kept], self.scores[kept])


@dataclass(frozen=True)
class Ranking:
    """The detections of one class in N images, those of the highest score first.

    Attributes:
        right: whether each detection is right, bool [K].
        images: the image each is in, int64 [K].
        labels: labels of this class in each image, float64 [N].
    """

    right: Tensor
    images: Tensor
    labels: Tensor

    def average_precision(self, counts: Tensor) -> Tensor:
        """The precision at 101 levels of recall, the mean over them, of images drawn several times each.

        Args:
            counts: how often each image counts, float64 [R, N].

        Returns:
            float64 [R]; NaN where no label counts.
        """
        labels, drawn = counts @ self.labels, counts[:, self.images]
        hits = (drawn * self.right).cumsum(1)
        recall, precision = hits / labels.clamp(min=1)[:, None], hits / drawn.cumsum(1).clamp(min=1)
        envelope = precision.flip(1).cummax(1).values.flip(1) if len(self.right) else precision
        levels = torch.linspace(0, 1, _RECALL_LEVELS, dtype=torch.float64).expand(len(counts), -1).contiguous()
        reached = F.pad(envelope, (0, 1)).gather(1, torch.searchsorted(recall, levels))
        return torch.where(labels > 0, reached.sum(1) / _RECALL_LEVELS, torch.nan)


def mean_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float = 0.5) -> float:
    """The mean over the classes that occur in the labels.

    Args:
        found: the detections of every image.
        truth: the labels of every image.
        iou: a detection is right if it overlaps a label that no better detection has taken at least so far.
    """
    once = torch.ones(1, len(truth), dtype=torch.float64)
    return float(mean_over_classes(rankings(found, truth, iou), once))


def rankings(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float = 0.5) -> list[Ranking]:
    """What :func:`mean_average_precision` ranks, of each class that occurs in the labels.

    Raises:
        ValueError: if there are no labels.
    """
    classes = sorted({int(which) for labels in truth for which in labels.classes})
    if not classes:
        raise ValueError("mean average precision needs at least one label")
    return [
        _ranking([item.of_class(which) for item in found], [item.of_class(which) for item in truth], iou)
        for which in classes
    ]


def mean_over_classes(ranked: Sequence[Ranking], counts: Tensor) -> Tensor:
    """The average precision of images that count several times each, the mean over the classes whose labels do.

    Args:
        ranked: the detections of each class.
        counts: how often each image counts, float64 [R, N].

    Returns:
        float64 [R].
    """
    return torch.stack([ranking.average_precision(counts) for ranking in ranked]).nanmean(0)


def _ranking(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float) -> Ranking:
    right = torch.cat([_right(*pair, iou) for pair in zip(found, truth, strict=True)])
    images = torch.cat([torch.full((len(item.scores),), index) for index, item in enumerate(found)])
    order = torch.cat([item.scores for item in found]).argsort(descending=True, stable=True)
    labels = torch.tensor([float(len(item.classes)) for item in truth], dtype=torch.float64)
    return Ranking(right[order], images[order], labels)


def _right(found: Boxes, truth: Boxes, iou: float) -> Tensor:
    """Which detections of an image are right: the best first, each takes the free label it overlaps most."""
    right = torch.zeros(len(found.scores), dtype=torch.bool)
    overlaps = box_iou(found.corners, truth.corners)
    for index in found.scores.argsort(descending=True, stable=True).tolist():
        if overlaps.shape[1] == 0:
            break
        best = int(overlaps[index].argmax())
        if overlaps[index, best] >= iou:
            right[index] = True
            overlaps[:, best] = -1.0
    return right
