"""FastestDet, an ONNX file: a detector of 80 classes without anchors, on images of COCO."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from benchmarks.bootstrap import paired_bootstrap
from benchmarks.real_data import require_data
from benchmarks.trained.average_precision import Boxes, mean_over_classes, rankings
from benchmarks.trained.conversion import timed_conversion
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.report import Report

_SIZE, _BATCH = 352, 8
_LEAST_SCORE, _NMS_IOU, _MOST_BOXES = 0.001, 0.45, 100


def measure(images: int | None = None, config: ConversionConfig | None = None) -> Result:
    """MAP50 of both networks: four conversions, each calibrated on three quarters and evaluated on the other one.

    Args:
        images: how many of a quarter to evaluate on at most.
        config: the settings; None for the default ones.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    measured = [_measure_fold(folder, *fold, config) for fold in folds]
    truth = [read_labels(folder, path) for evaluated, _ in folds for path in evaluated]
    ann_output, snn_output = (torch.cat([fold.outputs[which] for fold in measured]) for which in range(2))
    ann_precision, snn_precision = (
        partial(mean_over_classes, rankings(decode(output), truth)) for output in (ann_output, snn_output)
    )
    metric = paired_bootstrap(ann_precision, snn_precision, len(truth))
    return Result(
        "FastestDet.onnx",
        "mAP50",
        metric.first,
        metric.second,
        len(truth),
        f"{len(folds)} times {len(folds[0][1])} other images of COCO",
        measured[0].report,
        {"output_sqnr_db": sqnr_db(ann_output, snn_output)},
        difference_ci95=metric.difference_ci95,
        relative_ci95=metric.relative_ci95,
        conversion_seconds=sum(fold.seconds for fold in measured) / len(measured),
    )


@dataclass(frozen=True)
class _Fold:
    """One conversion: the outputs of ANN and SNN for the images it is evaluated on."""

    outputs: tuple[Tensor, Tensor]
    report: Report
    seconds: float


def _measure_fold(
    folder: Path, evaluated: list[Path], calibration: list[Path], config: ConversionConfig | None
) -> _Fold:
    model = folder / "FastestDet.onnx"
    snn, seconds = timed_conversion(model, batches_of(map(read_input, calibration), _BATCH), config)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    (ann_output,), (snn_output,) = (
        outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks
    )
    return _Fold((ann_output, snn_output), snn.report, seconds)


def read_input(path: Path) -> Tensor:
    """An image as the network takes it: [3, 352, 352], blue first, 0..1."""
    return resized(read_pixels(path).flip(0), _SIZE, _SIZE) / 255


def read_labels(folder: Path, image: Path) -> Boxes:
    """The labelled boxes of an image, in parts of its size; an image of nothing has no file."""
    path = folder / "coco" / "labels" / f"{image.stem}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    values = torch.tensor([[float(value) for value in line.split()] for line in lines]).view(-1, 5)
    corners = box_convert(values[:, 1:], "cxcywh", "xyxy")
    return Boxes(corners, values[:, 0].long(), torch.ones(len(values)))


def decode(output: Tensor) -> list[Boxes]:
    """The detections of every image, in parts of its size.

    Args:
        output: [N, 5 + classes, H, W]: objectness, offset of the centre from its cell, size, classes.
    """
    rows, columns = output.shape[2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre_x, centre_y = (output[:, 1].tanh() + x) / columns, (output[:, 2].tanh() + y) / rows
    boxes = torch.stack([centre_x, centre_y, output[:, 3].sigmoid(), output[:, 4].sigmoid()], -1).flatten(1, 2)
    best, classes = output[:, 5:].max(1)
    scores = (output[:, 0] ** 0.6 * best**0.4).flatten(1)
    corners = box_convert(boxes, "cxcywh", "xyxy")
    return [_suppressed(*image) for image in zip(corners, classes.flatten(1), scores, strict=True)]


def _suppressed(corners: Tensor, classes: Tensor, scores: Tensor) -> Boxes:
    likely = scores > _LEAST_SCORE
    corners, classes, scores = corners[likely], classes[likely], scores[likely]
    kept = batched_nms(corners, scores, classes, _NMS_IOU)[:_MOST_BOXES]
    return Boxes(corners[kept], classes[kept], scores[kept])
