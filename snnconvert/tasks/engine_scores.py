"""A task's metrics of one network alone, as it runs in an engine: mIoU, or mAP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from snnconvert.errors import InputError
from snnconvert.tasks.average_precision import IOU_LEVELS, Boxes, mean_over_classes, rankings
from snnconvert.tasks.bootstrap import RESAMPLES, bootstrapped, once
from snnconvert.tasks.detection import MOST, SURE, coco_average_precision, detections_of, targets_of
from snnconvert.tasks.evaluation import DETECTION_RESAMPLES
from snnconvert.tasks.segmentation import VOID, check_classes, overlap, overlap_statistic, segmentation_logits


@dataclass(frozen=True)
class TaskScore:
    """One metric of one network.

    Attributes:
        name: such as "mIoU".
        value: share, 0..1.
        images: number of images.
        ci95: 95 % percentile interval of the bootstrap over images; None of a single one.
    """

    name: str
    value: float
    images: int
    ci95: tuple[float, float] | None


class TaskScorer(Protocol):
    """Collects what a network gives, batch after batch."""

    def add(self, output: Any, targets: Any | None, reference: Callable[[], Any]) -> None:
        """One batch: the output, its targets or None, and what gives the packed network's output."""

    def scores(self) -> tuple[TaskScore, ...]:
        """The metrics; empty where nothing defines one."""


class SegmentationScorer:
    """MIoU over the pixels of all images, as :func:`~snnconvert.tasks.segmentation.evaluate_segmentation` counts it.

    Args:
        void: the value of pixels that don't count.
        seed: of the bootstrap.
    """

    def __init__(self, void: int = VOID, seed: int = 0) -> None:
        self._void, self._seed = void, seed
        self._found: list[tuple[Tensor, Tensor]] = []

    def add(self, output: Any, targets: Sequence[Tensor] | None, reference: Callable[[], Any]) -> None:
        """One batch: logits [N, classes, h, w] and masks int64 [H, W] of any sizes, or None.

        Raises:
            InputError: if the output is no such thing, or a mask holds a value that is neither a class nor void.
        """
        del reference  # masks alone say what is right
        logits = segmentation_logits(output)
        for number, mask in enumerate(targets or ()):
            check_classes(mask, logits.shape[1], self._void, f"mask {len(self._found)}")
            self._found.append(overlap(logits[number], mask, self._void))

    def scores(self) -> tuple[TaskScore, ...]:
        """The mIoU; nothing without masks, or if all their pixels are void."""
        if not self._found:
            return ()
        statistic, images = overlap_statistic(self._found), len(self._found)
        value = float(statistic(once(images)))
        if math.isnan(value):
            return ()
        interval = bootstrapped(statistic, images, resamples=RESAMPLES, seed=self._seed)
        return (TaskScore("mIoU", value, images, interval),)


class DetectionScorer:
    """COCO's mAP and mAP50; of images without labels AP50 where the packed network's sure boxes are the truth.

    Args:
        seed: of the bootstrap.
        resamples: how often images are drawn anew.
    """

    def __init__(self, seed: int = 0, resamples: int = DETECTION_RESAMPLES) -> None:
        self._seed, self._resamples = seed, resamples
        self._found: list[Boxes] = []
        self._truth: list[Boxes] = []
        self._labelled: set[bool] = set()

    def add(self, output: Any, targets: Any | None, reference: Callable[[], Any]) -> None:
        """One batch: a list of dicts of boxes, labels and scores, and dicts of boxes and labels, or None.

        Raises:
            InputError: if either is of another form, or only some images are labelled.
        """
        found = detections_of(output)
        self._labelled.add(targets is not None)
        if len(self._labelled) > 1:
            raise InputError("some images have labels and some have none: give all or none")
        if targets is None:
            self._truth += [boxes.where(boxes.scores >= SURE) for boxes in detections_of(reference())]
        else:
            self._truth += targets_of((None, targets), len(found), len(self._found))
        self._found += found

    def scores(self) -> tuple[TaskScore, ...]:
        """MAP and mAP50 of labelled images; nothing where there is no box that counts."""
        if not any(bool(boxes.counting.any()) for boxes in self._truth):
            return ()
        if self._labelled == {False}:
            name = f"AP50 on the packed network's boxes of a score of at least {SURE:g}"
            return (self._score(name, None, IOU_LEVELS[:1], None),)
        values = coco_average_precision(self._found, self._truth)
        return tuple(
            self._score(name, values[name], levels, MOST)
            for name, levels in (("mAP", IOU_LEVELS), ("mAP50", IOU_LEVELS[:1]))
        )

    def _score(self, name: str, value: float | None, levels: Sequence[float], most: int | None) -> TaskScore:
        images = len(self._found)
        statistic = partial(mean_over_classes, rankings(self._found, self._truth, levels, most))
        interval = bootstrapped(statistic, images, resamples=self._resamples, seed=self._seed)
        return TaskScore(name, float(statistic(once(images))) if value is None else value, images, interval)


class ReadoutOverlaps:
    """MIoU and agreement of logits that are read out at K ticks, over all pixels of all images.

    Args:
        void: the value of pixels that don't count.
    """

    def __init__(self, void: int = VOID) -> None:
        self._void = void
        self._found: list[list[tuple[Tensor, Tensor]]] = []

    def add(self, readout: Tensor, masks: Sequence[Tensor]) -> None:
        """One batch: logits [K, N, classes, h, w], masks int64 [H, W] of any sizes."""
        self._found = self._found or [[] for _ in readout]
        for of_tick, logits in zip(self._found, readout, strict=True):
            for number, mask in enumerate(masks):
                check_classes(mask, logits.shape[1], self._void, f"mask {len(of_tick)}")
                of_tick.append(overlap(logits[number], mask, self._void))

    def shares(self) -> tuple[float, ...] | None:
        """The mIoU at each tick; None without masks, or if all their pixels are void."""
        if not self._found or not self._found[0]:
            return None
        values = torch.cat([overlap_statistic(found)(once(len(found))) for found in self._found])
        return None if bool(values.isnan().any()) else tuple(values.tolist())
