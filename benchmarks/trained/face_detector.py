"""The Ultra-Light face detector RFB-320, an ONNX file with two outputs, on images of COCO without labels of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

import snnconvert
from benchmarks.real_data import require_data
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.report import Report

_HEIGHT, _WIDTH, _BATCH = 240, 320, 16
_LEAST_SCORE, _NMS_IOU, _SAME_IOU = 0.7, 0.3, 0.5


@dataclass(frozen=True)
class _Agreement:
    """One conversion: which faces of the ANN the SNN finds, which of the SNN's the ANN confirms, and the SQNRs."""

    found: list[bool]
    confirmed: list[bool]
    sqnr_db: dict[str, float | None]
    report: Report


def measure(images: int | None = None) -> Result:
    """Share of the faces either network finds that the other finds, too, in images that nobody has labelled.

    Over four conversions, each calibrated on another quarter of the images.

    Args:
        images: how many of the other images to evaluate each on at most.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    measured = [_measure_fold(folder / "version-RFB-320.onnx", *fold) for fold in folds]
    found = [face for fold in measured for face in fold.found]
    confirmed = [face for fold in measured for face in fold.confirmed]
    faces_of_both = [*found, *confirmed]
    details = {
        "ann_faces": len(found),
        "ann_faces_found": sum(found),
        "snn_faces": len(confirmed),
        "snn_faces_confirmed": sum(confirmed),
        "sqnr_db_of_each_fold": [fold.sqnr_db for fold in measured],
    }
    agreement = sum(faces_of_both) / len(faces_of_both) if faces_of_both else 1.0
    calibration = f"{len(folds)} times {len(folds[0][1])} other images of COCO"
    report = measured[0].report
    return Result("version-RFB-320.onnx", "same faces", 1.0, agreement, len(folds[0][0]), calibration, report, details)


def _measure_fold(model: Path, evaluated: list[Path], calibration: list[Path]) -> _Agreement:
    snn: Any = snnconvert.convert(model, batches_of(map(read_input, calibration), _BATCH), progress=False)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    ann_outputs, snn_outputs = (
        outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks
    )
    ann_faces, snn_faces = faces(*ann_outputs), faces(*snn_outputs)
    pairs = zip(("scores", "boxes"), ann_outputs, snn_outputs, strict=True)
    sqnrs = {name: sqnr_db(*outputs) for name, *outputs in pairs}
    return _Agreement(matched(ann_faces, snn_faces), matched(snn_faces, ann_faces), sqnrs, snn.report)


def read_input(path: Path) -> Tensor:
    """An image as the network takes it: [3, 240, 320], about −1..1."""
    return (resized(read_pixels(path), _HEIGHT, _WIDTH) - 127) / 128


def faces(scores: Tensor, boxes: Tensor) -> list[Tensor]:
    """The boxes [K, 4] of every image that are likely faces.

    Args:
        scores: [N, boxes, 2] of background and face.
        boxes: [N, boxes, 4] corners.
    """
    found = []
    for image_scores, image_boxes in zip(scores[..., 1], boxes, strict=True):
        likely = image_scores > _LEAST_SCORE
        kept = nms(image_boxes[likely], image_scores[likely], _NMS_IOU)
        found.append(image_boxes[likely][kept])
    return found


def matched(found: Sequence[Tensor], others: Sequence[Tensor]) -> list[bool]:
    """Of each box whether some other box of the same image is nearly the same."""
    result: list[bool] = []
    for boxes, candidates in zip(found, others, strict=True):
        overlaps = torch.cat([box_iou(boxes, candidates), torch.zeros(len(boxes), 1)], 1)
        result += (overlaps.max(1).values > _SAME_IOU).tolist()
    return result
