"""The Ultra-Light face detector RFB-320, an ONNX file with two outputs, on images of COCO without labels of faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from benchmarks.bootstrap import paired_bootstrap
from benchmarks.real_data import require_data
from benchmarks.trained.conversion import timed_conversion
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.report import Report

_HEIGHT, _WIDTH, _BATCH = 240, 320, 16
_LEAST_SCORE, _NMS_IOU, _SAME_IOU = 0.7, 0.3, 0.5


@dataclass(frozen=True)
class _Agreement:
    """One conversion, each list by image.

    Attributes:
        found: which faces of the ANN the SNN finds.
        confirmed: which of the SNN's the ANN finds.
        places: where the images are among those of all conversions.
        sqnr_db: of each output.
        report: the conversion's own.
        seconds: it took.
    """

    found: list[list[bool]]
    confirmed: list[list[bool]]
    places: list[int]
    sqnr_db: dict[str, float | None]
    report: Report
    seconds: float

    def faces(self) -> Iterator[tuple[int, list[bool]]]:
        """The place of each image, and which faces of either network the other finds, too."""
        for place, found, confirmed in zip(self.places, self.found, self.confirmed, strict=True):
            yield place, found + confirmed


def measure(images: int | None = None, config: ConversionConfig | None = None) -> Result:
    """Share of the faces either network finds that the other finds, too, in images that nobody has labelled.

    Over four conversions, each calibrated on another quarter of the images.

    Args:
        images: how many of the other images to evaluate each on at most.
        config: the settings; None for the default ones.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    paths = sorted({path for evaluated, _ in folds for path in evaluated})
    measured = [_measure_fold(folder / "version-RFB-320.onnx", *fold, paths, config) for fold in folds]
    metric = paired_bootstrap(_complete, partial(_agreement, *_faces_by_image(measured, len(paths))), len(paths))
    return Result(
        "version-RFB-320.onnx",
        "same faces",
        metric.first,
        metric.second,
        len(folds[0][0]),
        f"{len(folds)} times {len(folds[0][1])} other images of COCO",
        measured[0].report,
        _details(measured),
        difference_ci95=metric.difference_ci95,
        conversion_seconds=sum(fold.seconds for fold in measured) / len(measured),
    )


def _details(measured: list[_Agreement]) -> dict[str, Any]:
    found = [face for fold in measured for image in fold.found for face in image]
    confirmed = [face for fold in measured for image in fold.confirmed for face in image]
    return {
        "ann_faces": len(found),
        "ann_faces_found": sum(found),
        "snn_faces": len(confirmed),
        "snn_faces_confirmed": sum(confirmed),
        "sqnr_db_of_each_fold": [fold.sqnr_db for fold in measured],
    }


def _faces_by_image(measured: list[_Agreement], images: int) -> tuple[Tensor, Tensor]:
    """Of each image the faces of either network that the other finds, too, and all of them; float64 [N]."""
    same, all_faces = torch.zeros(images, dtype=torch.float64), torch.zeros(images, dtype=torch.float64)
    for fold in measured:
        for place, faces_of_both in fold.faces():
            same[place] += sum(faces_of_both)
            all_faces[place] += len(faces_of_both)
    return same, all_faces


def _agreement(same: Tensor, all_faces: Tensor, counts: Tensor) -> Tensor:
    """The share of the faces of either network that the other finds, too; 1 where there are none."""
    drawn = counts @ all_faces
    return torch.where(drawn > 0, counts @ same / drawn, 1.0)


def _complete(counts: Tensor) -> Tensor:
    return counts.new_ones(len(counts))


def _measure_fold(
    model: Path, evaluated: list[Path], calibration: list[Path], paths: list[Path], config: ConversionConfig | None
) -> _Agreement:
    snn, seconds = timed_conversion(model, batches_of(map(read_input, calibration), _BATCH), config)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    ann_outputs, snn_outputs = (
        outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks
    )
    ann_faces, snn_faces = faces(*ann_outputs), faces(*snn_outputs)
    pairs = zip(("scores", "boxes"), ann_outputs, snn_outputs, strict=True)
    return _Agreement(
        matched(ann_faces, snn_faces),
        matched(snn_faces, ann_faces),
        [paths.index(path) for path in evaluated],
        {name: sqnr_db(*outputs) for name, *outputs in pairs},
        snn.report,
        seconds,
    )


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


def matched(found: Sequence[Tensor], others: Sequence[Tensor]) -> list[list[bool]]:
    """Of each box of each image whether some other box of the same image is nearly the same."""
    result: list[list[bool]] = []
    for boxes, candidates in zip(found, others, strict=True):
        overlaps = torch.cat([box_iou(boxes, candidates), torch.zeros(len(boxes), 1)], 1)
        result.append((overlaps.max(1).values > _SAME_IOU).tolist())
    return result
