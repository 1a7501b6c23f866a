"""The Ultra-Light face detector RFB-320, an ONNX file with two outputs, on images of COCO without labels of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from benchmarks.bootstrap import paired_bootstrap
from benchmarks.real_data import require_data
from benchmarks.trained.average_precision import Boxes, mean_over_classes, rankings
from benchmarks.trained.conversion import timed_conversion
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.report import Report

_HEIGHT, _WIDTH, _BATCH = 240, 320, 16
_FACE_SCORE, _LEAST_SCORE, _NMS_IOU = 0.7, 0.01, 0.3


def measure(images: int | None = None, config: ConversionConfig | None = None) -> Result:
    """AP50 of both networks where the faces the ANN finds are the truth, since nobody has labelled the images.

    Four conversions, each calibrated on three quarters of the images and evaluated on the other one. The ANN's own
    figure is 100 %; the SNN's falls with faces it misses and with others it is surer of.

    Args:
        images: how many of a quarter to evaluate on at most.
        config: the settings; None for the default ones.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    measured = [_measure_fold(folder / "version-RFB-320.onnx", *fold, config) for fold in folds]
    ann, snn = (
        [torch.cat(parts) for parts in zip(*of_network, strict=True)]
        for of_network in zip(*((fold.ann, fold.snn) for fold in measured), strict=True)
    )
    truth = faces(ann, _FACE_SCORE)
    ann_precision, snn_precision = (
        partial(mean_over_classes, rankings(faces(outputs, _LEAST_SCORE), truth)) for outputs in (ann, snn)
    )
    metric = paired_bootstrap(ann_precision, snn_precision, len(truth))
    return Result(
        "version-RFB-320.onnx",
        "AP50 on its own faces",
        metric.first,
        metric.second,
        len(truth),
        f"{len(folds)} times {len(folds[0][1])} other images of COCO",
        measured[0].report,
        {
            "faces": sum(len(boxes.scores) for boxes in truth),
            "sqnr_db": {name: sqnr_db(*pair) for name, *pair in zip(("scores", "boxes"), ann, snn, strict=True)},
        },
        difference_ci95=metric.difference_ci95,
        relative_ci95=metric.relative_ci95,
        conversion_seconds=sum(fold.seconds for fold in measured) / len(measured),
    )


@dataclass(frozen=True)
class _Fold:
    """One conversion: scores and boxes of ANN and SNN for the images it is evaluated on."""

    ann: list[Tensor]
    snn: list[Tensor]
    report: Report
    seconds: float


def _measure_fold(
    model: Path, evaluated: list[Path], calibration: list[Path], config: ConversionConfig | None
) -> _Fold:
    snn, seconds = timed_conversion(model, batches_of(map(read_input, calibration), _BATCH), config)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    ann, spiking = (outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks)
    return _Fold(ann, spiking, snn.report, seconds)


def read_input(path: Path) -> Tensor:
    """An image as the network takes it: [3, 240, 320], about −1..1."""
    return (resized(read_pixels(path), _HEIGHT, _WIDTH) - 127) / 128


def faces(outputs: Sequence[Tensor], least_score: float) -> list[Boxes]:
    """The boxes of every image that are faces with at least so high a score.

    Args:
        outputs: scores [N, boxes, 2] of background and face, and corners [N, boxes, 4].
        least_score: the smallest score.
    """
    scores, boxes = outputs
    found = []
    for image_scores, image_boxes in zip(scores[..., 1], boxes, strict=True):
        likely = image_scores > least_score
        corners, sure = image_boxes[likely], image_scores[likely]
        kept = nms(corners, sure, _NMS_IOU)
        found.append(Boxes(corners[kept], torch.zeros(len(kept), dtype=torch.int64), sure[kept]))
    return found
