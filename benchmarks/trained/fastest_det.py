"""FastestDet, an ONNX file: a detector of 80 classes without anchors, on images of COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

import snnconvert
from benchmarks.real_data import require_data
from benchmarks.trained.average_precision import Boxes, mean_average_precision
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.report import Report

_SIZE, _BATCH = 352, 8
_LEAST_SCORE, _NMS_IOU, _MOST_BOXES = 0.001, 0.45, 100


def measure(images: int | None = None) -> Result:
    """MAP50 of both networks: the mean over four conversions, each calibrated on another quarter of the images.

    Args:
        images: how many of the other images to evaluate each on at most.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    measured = [_measure_fold(folder, *fold) for fold in folds]
    ann, snn = (sum(pair[which] for pair, _, _ in measured) / len(folds) for which in range(2))
    details = {
        "difference_points_of_each_fold": [100 * (pair[1] - pair[0]) for pair, _, _ in measured],
        "output_sqnr_db_of_each_fold": [sqnr for _, sqnr, _ in measured],
    }
    calibration = f"{len(folds)} times {len(folds[0][1])} other images of COCO"
    return Result("FastestDet.onnx", "mAP50", ann, snn, len(folds[0][0]), calibration, measured[0][2], details)


def _measure_fold(
    folder: Path, evaluated: list[Path], calibration: list[Path]
) -> tuple[tuple[float, float], float | None, Report]:
    """MAP50 of ANN and SNN, the SQNR of the output, and the conversion's report."""
    model = folder / "FastestDet.onnx"
    snn: Any = snnconvert.convert(model, batches_of(map(read_input, calibration), _BATCH), progress=False)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    (ann_output,), (snn_output,) = (
        outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks
    )
    truth = [read_labels(folder, path) for path in evaluated]
    ann_map, snn_map = (mean_average_precision(decode(output), truth) for output in (ann_output, snn_output))
    return (ann_map, snn_map), sqnr_db(ann_output, snn_output), snn.report


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
