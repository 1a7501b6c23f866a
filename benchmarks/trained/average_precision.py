"""Mean average precision at one IoU, by COCO's rules: greedy matching by score, 101 levels of recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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


def mean_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float = 0.5) -> float:
    """The mean over the classes that occur in the labels.

    Args:
        found: the detections of every image.
        truth: the labels of every image.
        iou: a detection is right if it overlaps a label that no better detection has taken at least so far.
    """
    classes = sorted({int(which) for labels in truth for which in labels.classes})
    if not classes:
        raise ValueError("mean average precision needs at least one label")
    values = [
        average_precision([item.of_class(which) for item in found], [item.of_class(which) for item in truth], iou)
        for which in classes
    ]
    return sum(values) / len(values)


def average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float) -> float:
    """The average precision of one class; there must be a label."""
    right = torch.cat([_right(*pair, iou) for pair in zip(found, truth, strict=True)])
    scores = torch.cat([item.scores for item in found])
    hits = right[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    recall = hits / sum(len(item.classes) for item in truth)
    precision = hits / torch.arange(1, len(hits) + 1, dtype=torch.float64)
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    levels = torch.linspace(0, 1, _RECALL_LEVELS, dtype=torch.float64)
    places = torch.searchsorted(recall, levels)
    reached = places < len(envelope)
    return float(envelope[places[reached]].sum() / _RECALL_LEVELS)


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
