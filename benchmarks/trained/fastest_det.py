"""FastestDet, an ONNX file: a detector of 80 classes without anchors, on images of COCO."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from benchmarks.trained.detection import Outputs, detector_task
from benchmarks.trained.photographs import read_pixels, resized, sqnr_db
from benchmarks.trained.task import Figures, Task, bootstrapped
from snnconvert.tasks.average_precision import Boxes, mean_over_classes, rankings

_SIZE, _BATCH = 352, 8
_LEAST_SCORE, _NMS_IOU, _MOST_BOXES = 0.001, 0.45, 100


def task(images: int | None = None) -> Task:
    """MAP50 on labelled images, cross-validated.

    Args:
        images: how many of a quarter to evaluate on at most.
    """
    return detector_task("FastestDet.onnx", "mAP50", read_input, _BATCH, figures, images)


def figures(ann: Outputs, snn: Outputs, images: list[Path]) -> Figures:
    """MAP50 of both.

    Args:
        ann: the ANN's outputs for the images.
        snn: the same of the SNN.
        images: labelled ones.
    """
    truth = [read_labels(path) for path in images]
    (ann_output,), (snn_output,) = ann, snn
    ann_precision, snn_precision = (
        partial(mean_over_classes, rankings(decode(output), truth)) for output in (ann_output, snn_output)
    )
    return bootstrapped(ann_precision, snn_precision, len(images), {"output_sqnr_db": sqnr_db(ann_output, snn_output)})


def read_input(path: Path) -> Tensor:
    """An image as the network takes it: [3, 352, 352], blue first, 0..1."""
    return resized(read_pixels(path).flip(0), _SIZE, _SIZE) / 255


def read_labels(image: Path) -> Boxes:
    """The labelled boxes of an image, in parts of its size; an image of nothing has no file."""
    path = image.parents[1] / "labels" / f"{image.stem}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    values = torch.tensor([[float(value) for value in line.split()] for line in lines]).view(-1, 5)
    corners = box_convert(values[:, 1:], "cxcywh", "xyxy")
    return Boxes(corners, values[:, 0].long(), torch.ones(len(values)))


def decode(output: Tensor) -> list[Boxes]:
    """The detections of every image, in parts of its size.

    Args:
        output: [N, 5 + classes, H, W]: objectness, offset of the centre from its cell, size, classes.
    """
    classes = output[:, 5:].argmax(1).flatten(1)
    return [_suppressed(*image) for image in zip(corners_of(output), classes, scores_of(output), strict=True)]


def scores_of(output: Tensor) -> Tensor:
    """The score of every cell's likeliest class, [N, H·W].

    Args:
        output: as for :func:`decode`.
    """
    return (output[:, 0] ** 0.6 * output[:, 5:].amax(1) ** 0.4).flatten(1)


def corners_of(output: Tensor) -> Tensor:
    """The box of every cell, [N, H·W, 4], in parts of the image's size.

    Args:
        output: as for :func:`decode`.
    """
    rows, columns = output.shape[2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre_x, centre_y = (output[:, 1].tanh() + x) / columns, (output[:, 2].tanh() + y) / rows
    boxes = torch.stack([centre_x, centre_y, output[:, 3].sigmoid(), output[:, 4].sigmoid()], -1).flatten(1, 2)
    corners: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return corners


def _suppressed(corners: Tensor, classes: Tensor, scores: Tensor) -> Boxes:
    likely = scores > _LEAST_SCORE
    corners, classes, scores = corners[likely], classes[likely], scores[likely]
    kept = batched_nms(corners, scores, classes, _NMS_IOU)[:_MOST_BOXES]
    return Boxes(corners[kept], classes[kept], scores[kept])
