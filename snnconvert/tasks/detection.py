"""Object detection: mean average precision of ANN and SNN on the same boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from snnconvert.detectors import detector_inputs
from snnconvert.errors import InputError
from snnconvert.report.schema import Metric
from snnconvert.tasks.average_precision import IOU_LEVELS, RECALL_LEVELS, Boxes, Ranking, mean_over_classes, rankings
from snnconvert.tasks.bootstrap import bootstrapped_difference, once
from snnconvert.tasks.evaluation import (
    DETECTION_RESAMPLES,
    TaskEvaluation,
    device_of,
    items,
    no_images,
    tasks_module,
)

SURE = 0.5
_Interval: TypeAlias = Callable[[Sequence[Ranking], Sequence[Ranking]], "tuple[float, float] | None"]
MOST = 100  # detections of one class in one image, COCO's number


def evaluate_detection(
    ann: nn.Module,
    snn: nn.Module,
    loader: Iterable[Any],
    *,
    score: float = SURE,
    seed: int = 0,
    resamples: int = DETECTION_RESAMPLES,
) -> TaskEvaluation:
    """COCO's mAP (IoU 0.5 to 0.95) and mAP50 of labelled images, and AP50 where the ANN's own boxes are the truth.

    AP is the mean of the precision at 101 levels of recall; mAP the mean of it over the classes that are labelled and
    ten levels of IoU. The last metric needs no labels: the ANN's boxes of at least ``score`` are the truth, the ANN
    has 100 % by definition. Intervals are those of the paired bootstrap over images.

    Args:
        ann: the original detector, in evaluation mode: a list of images [C, H, W] to a list of dicts of boxes
            [K, 4] as (x1, y1, x2, y2), labels [K] and scores [K], as torchvision's detectors.
        snn: the converted one.
        loader: lists of images, or (images, targets) pairs: a target is a dict of boxes and labels, if need be
            with iscrowd [K]: boxes which may be found or not.
        score: the least score of a box of the ANN that counts as truth.
        seed: of the bootstrap.
        resamples: how often the images are drawn anew; 0: no intervals.

    Raises:
        InputError: if there are no images, an item or an output is of another form, only some images are labelled,
            or torchmetrics or pycocotools isn't installed and images are labelled.
    """
    found = _Found()
    device = device_of(ann)
    for index, item in items(loader):
        images = [image.to(device) for image in detector_inputs(item, index).args[0]]
        with torch.no_grad():
            found.add(detections_of(ann(images)), detections_of(snn(images)), targets_of(item, len(images), index))
    if not found.images:
        raise no_images()
    interval = partial(_interval, images=found.images, resamples=resamples, seed=seed)
    metrics, notes = _labelled_metrics(found, interval)
    own, note = _own_metric(found, score, interval)
    return TaskEvaluation("detection", (*metrics, *own), None, found.images, (*notes, *note))


@dataclass(frozen=True)
class _Found:
    """Boxes of every image: both networks' and the labels."""

    ann: list[Boxes] = field(default_factory=list)
    snn: list[Boxes] = field(default_factory=list)
    truth: list[Boxes] = field(default_factory=list)

    @property
    def images(self) -> int:
        return len(self.ann)

    def add(self, ann: Sequence[Boxes], snn: Sequence[Boxes], truth: Sequence[Boxes]) -> None:
        if not len(ann) == len(snn) or (truth and len(self.truth) != len(self.ann)) or (self.truth and not truth):
            raise InputError("some images have labels and some have none: give all or none")
        self.ann.extend(ann)
        self.snn.extend(snn)
        self.truth.extend(truth)


def _labelled_metrics(found: _Found, interval: _Interval) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    if not found.truth:
        return (), ("no boxes are given: those of the ANN are the truth, there is no mAP",)
    if not any(bool(boxes.counting.any()) for boxes in found.truth):
        return (), ("no image has a labelled box: there is no mAP",)
    ann, snn = coco_average_precision(found.ann, found.truth), coco_average_precision(found.snn, found.truth)
    metrics = []
    for name, levels in (("mAP", IOU_LEVELS), ("mAP50", IOU_LEVELS[:1])):
        ranked = [rankings(boxes, found.truth, levels, MOST) for boxes in (found.ann, found.snn)]
        metrics.append(Metric(name, ann[name], snn[name], found.images, interval(*ranked)))
    return tuple(metrics), ()


def _own_metric(found: _Found, score: float, interval: _Interval) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    truth = [boxes.where(boxes.scores >= score) for boxes in found.ann]
    if not any(len(boxes.scores) for boxes in truth):
        return (), (f"the ANN has no box of a score of {score:g} or more: there is no AP50 on its own boxes",)
    ranked = [rankings(boxes, truth, IOU_LEVELS[0]) for boxes in (found.ann, found.snn)]
    ann, snn = (float(mean_over_classes(of_network, once(found.images))) for of_network in ranked)
    name = f"AP50 on the ANN's boxes of a score of at least {score:g}"
    return (Metric(name, ann, snn, found.images, interval(*ranked)),), ()


def _interval(
    ann: Sequence[Ranking], snn: Sequence[Ranking], *, images: int, resamples: int, seed: int
) -> tuple[float, float] | None:
    if resamples < 1:
        return None
    first, second = (partial(mean_over_classes, ranked) for ranked in (ann, snn))
    return bootstrapped_difference(first, second, images, resamples=resamples, seed=seed)


def coco_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes]) -> dict[str, float]:
    """MAP and mAP50 as torchmetrics and pycocotools compute them.

    Raises:
        InputError: if one of them isn't installed.
    """
    tasks_module("pycocotools.cocoeval")
    metric = tasks_module("torchmetrics.detection").MeanAveragePrecision(
        iou_thresholds=list(IOU_LEVELS), rec_thresholds=list(RECALL_LEVELS)
    )
    metric.warn_on_many_detections = False
    metric.update(
        [{"boxes": boxes.corners, "labels": boxes.classes, "scores": boxes.scores} for boxes in found],
        [{"boxes": boxes.corners, "labels": boxes.classes, "iscrowd": (~boxes.counting).long()} for boxes in truth],
    )
    values = metric.compute()
    return {"mAP": float(values["map"]), "mAP50": float(values["map_50"])}


def detections_of(output: Any) -> list[Boxes]:
    """The boxes of every image from what a detector returns.

    Raises:
        InputError: if it is no list of dicts of boxes, labels and scores.
    """
    if not isinstance(output, (tuple, list)):
        raise InputError(f"the detector returns {type(output).__name__}: expected a list of dicts of boxes")
    return [_boxes(found, "the detector's output", ("boxes", "labels", "scores")) for found in output]


def targets_of(item: Any, images: int, index: int) -> list[Boxes]:
    """The labels an item of a loader brings, one for each image; none if it brings none."""
    if not isinstance(item, (tuple, list)) or len(item) != 2 or isinstance(item[1], Tensor):
        return []
    targets = [item[1]] if isinstance(item[1], Mapping) else item[1]
    if not isinstance(targets, (tuple, list)) or len(targets) != images:
        raise InputError(f"batch {index} holds {images} images without one target each: give a dict of boxes for each")
    return [_boxes(target, f"a target of batch {index}", ("boxes", "labels")) for target in targets]


def _boxes(found: Any, where: str, keys: tuple[str, ...]) -> Boxes:
    if not isinstance(found, Mapping) or not all(isinstance(found.get(key), Tensor) for key in keys):
        raise InputError(f"{where} is no dict of the tensors {', '.join(keys)}")
    corners, classes = found["boxes"].detach().cpu().float(), found["labels"].detach().cpu()
    scores = found["scores"].detach().cpu().float() if "scores" in keys else torch.ones(len(classes))
    if not classes.numel() and not corners.numel():
        corners, classes, scores = corners.new_zeros(0, 4), classes.new_zeros(0), scores.new_zeros(0)
    if corners.dim() != 2 or corners.shape[1] != 4 or classes.shape != scores.shape or len(corners) != len(classes):
        raise InputError(
            f"{where} has boxes {tuple(corners.shape)} and labels {tuple(classes.shape)}: give [K, 4], [K]"
        )
    if not bool(torch.isfinite(corners).all()) or classes.is_floating_point():
        raise InputError(f"{where} has boxes of NaN or Inf, or labels that are no integers")
    crowd = found.get("iscrowd") if "scores" not in keys else None
    ignored = crowd.detach().cpu().reshape(-1) != 0 if isinstance(crowd, Tensor) else None
    if ignored is not None and len(ignored) != len(classes):
        raise InputError(f"{where} has {len(classes)} labels and {len(ignored)} values of iscrowd")
    return Boxes(corners, classes.long(), scores, ignored)
