"""Mean average precision by COCO's rules: greedy matching by score, 101 levels of recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_area, box_iou

from snnconvert.tasks.bootstrap import once

RECALL_LEVELS: tuple[float, ...] = tuple(np.linspace(0.0, 1.0, 101).tolist())
IOU_LEVELS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
_LARGEST_CHUNK = 2**23


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: corners [K, 4] as (x1, y1, x2, y2), classes int64 [K], scores [K] (1 for labels).

    Labels may be ``ignored``, bool [K], as COCO's crowds are: finding them is neither right nor wrong.
    """

    corners: Tensor
    classes: Tensor
    scores: Tensor
    ignored: Tensor | None = None

    def of_class(self, which: int) -> Boxes:
        """Those of one class."""
        return self.where(self.classes == which)

    def where(self, kept: Tensor) -> Boxes:
        """Those that a bool [K] keeps, or the indices of some."""
        ignored = None if self.ignored is None else self.ignored[kept]
        return Boxes(self.corners[kept], self.classes[kept], self.scores[kept], ignored)

    @property
    def counting(self) -> Tensor:
        """Which ones aren't ignored, bool [K]."""
        return torch.ones(len(self.classes), dtype=torch.bool) if self.ignored is None else ~self.ignored


@dataclass(frozen=True)
class Ranking:
    """The detections of one class in N images, those of the highest score first.

    Attributes:
        right: whether each detection is right at each level of IoU, bool [levels, K].
        judged: whether it counts at all, bool [levels, K].
        images: the image each is in, int64 [K].
        labels: labels of this class in each image, float64 [N].
    """

    right: Tensor
    judged: Tensor
    images: Tensor
    labels: Tensor

    def average_precision(self, counts: Tensor) -> Tensor:
        """The mean precision at 101 levels of recall and all levels of IoU, of images drawn several times each.

        Args:
            counts: how often each image counts, float64 [R, N].

        Returns:
            float64 [R]; NaN where no label counts.
        """
        rows = max(1, _LARGEST_CHUNK // max(1, self.right.numel()))
        return torch.cat([self._of_rows(part) for part in torch.split(counts, rows)])

    def _of_rows(self, counts: Tensor) -> Tensor:
        labels = counts @ self.labels
        drawn = counts[:, None, self.images] * self.judged
        hits = (drawn * self.right).cumsum(2)
        recall, precision = hits / labels.clamp(min=1)[:, None, None], hits / drawn.cumsum(2).clamp(min=1)
        envelope = precision.flip(2).cummax(2).values.flip(2) if len(self.images) else precision
        levels = torch.tensor(RECALL_LEVELS, dtype=torch.float64).expand(*recall.shape[:2], -1).contiguous()
        reached = F.pad(envelope, (0, 1)).gather(2, torch.searchsorted(recall, levels))
        return torch.where(labels > 0, reached.mean((1, 2)), torch.nan)


def mean_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], iou: float | Sequence[float] = 0.5) -> float:
    """The mean over the classes that occur in the labels, and over the levels of IoU.

    Args:
        found: the detections of every image.
        truth: the labels of every image.
        iou: a detection is right if it overlaps a label that no better detection has taken at least so far.
    """
    return float(mean_over_classes(rankings(found, truth, iou), once(len(truth))))


def rankings(
    found: Sequence[Boxes], truth: Sequence[Boxes], iou: float | Sequence[float] = 0.5, most: int | None = None
) -> list[Ranking]:
    """What :func:`mean_average_precision` ranks, of each class that occurs in the labels.

    Args:
        found: the detections of every image.
        truth: the labels of every image.
        iou: the level or levels.
        most: detections of one class in one image that count, the surest; None for all.

    Raises:
        ValueError: if there are no labels.
    """
    classes = sorted({int(which) for labels in truth for which in labels.classes[labels.counting]})
    if not classes:
        raise ValueError("mean average precision needs at least one label")
    levels = np.minimum(np.atleast_1d(np.asarray(iou, dtype=np.float64)), 1 - 1e-10)
    ranked: list[Ranking] = []
    for which in classes:
        pairs = [(_surest(a.of_class(which), most), b.of_class(which)) for a, b in zip(found, truth, strict=True)]
        ranked.append(_ranking(pairs, levels))
    return ranked


def mean_over_classes(ranked: Sequence[Ranking], counts: Tensor) -> Tensor:
    """The average precision of images that count several times each, the mean over the classes whose labels do.

    Args:
        ranked: the detections of each class.
        counts: how often each image counts, float64 [R, N].

    Returns:
        float64 [R].
    """
    return torch.stack([ranking.average_precision(counts) for ranking in ranked]).nanmean(0)


def _surest(found: Boxes, most: int | None) -> Boxes:
    """Those of the highest scores, the highest first."""
    return found.where(found.scores.argsort(descending=True, stable=True)[:most])


def _ranking(pairs: Sequence[tuple[Boxes, Boxes]], levels: NDArray[np.float64]) -> Ranking:
    matched = [_matched(found, truth, levels) for found, truth in pairs]
    right, judged = (torch.cat([part[which] for part in matched], dim=1) for which in (0, 1))
    images = torch.cat([torch.full((len(found.scores),), index) for index, (found, _) in enumerate(pairs)])
    order = torch.cat([found.scores for found, _ in pairs]).argsort(descending=True, stable=True)
    labels = torch.tensor([float(truth.counting.sum()) for _, truth in pairs], dtype=torch.float64)
    return Ranking(right[:, order], judged[:, order], images[order], labels)


def _matched(found: Boxes, truth: Boxes, levels: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Which detections of an image, the best first, are right and which count at all, bool [levels, K] each.

    Each takes the free label it overlaps most; one that finds none but lies in an ignored label doesn't count.
    """
    shape = (len(levels), len(found.scores))
    right, judged = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    counting = truth.counting
    overlaps = box_iou(found.corners.double(), truth.corners[counting].double()).numpy()
    free = np.ones((len(levels), overlaps.shape[1]), dtype=bool)
    inside = _largest_inside(found.corners.double(), truth.corners[~counting].double())
    for index in range(shape[1]):
        if overlaps.shape[1]:
            values = np.where(free, overlaps[index], -1.0)
            best = values.shape[1] - 1 - values[:, ::-1].argmax(1)
            taken = values[np.arange(len(levels)), best] >= levels
            right[:, index] = taken
            free[taken, best[taken]] = False
        judged[:, index] = right[:, index] | (inside[index] < levels)
    return torch.from_numpy(right), torch.from_numpy(judged)


def _largest_inside(found: Tensor, around: Tensor) -> NDArray[np.float64]:
    """The largest share of each detection's area that lies in one of some labels, [K]."""
    if not len(around) or not len(found):
        return np.full(len(found), -1.0)
    low, high = torch.maximum(found[:, None, :2], around[:, :2]), torch.minimum(found[:, None, 2:], around[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    largest: NDArray[np.float64] = (shared / box_area(found).clamp(min=1e-12)[:, None]).amax(1).numpy()
    return largest
