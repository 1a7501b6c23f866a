"""The Ultra-Light face detector RFB-320, an ONNX file with two outputs, on images of COCO without labels of faces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import nms

from benchmarks.trained.detection import Outputs, detector_task
from benchmarks.trained.photographs import read_pixels, resized, sqnr_db
from benchmarks.trained.task import Figures, Task, bootstrapped
from snnconvert.tasks.average_precision import Boxes, mean_over_classes, rankings

_HEIGHT, _WIDTH, _BATCH = 240, 320, 16
FACE_SCORE = 0.7
_LEAST_SCORE, _NMS_IOU = 0.01, 0.3


def task(images: int | None = None) -> Task:
    """AP50 where the faces the ANN finds are the truth, since nobody has labelled the images; cross-validated.

    The ANN's own figure is 100 %; the SNN's falls with faces it misses and with others it is surer of.

    Args:
        images: how many of a quarter to evaluate on at most.
    """
    return detector_task("version-RFB-320.onnx", "AP50 on its own faces", read_input, _BATCH, figures, images)


def figures(ann: Outputs, snn: Outputs, images: list[Path]) -> Figures:
    """AP50 of both: the ANN's faces are the truth.

    Args:
        ann: scores and corners the ANN gives for the images.
        snn: the same of the SNN.
        images: whose they are.
    """
    truth = faces(ann, FACE_SCORE)
    ann_precision, snn_precision = (
        partial(mean_over_classes, rankings(faces(outputs, _LEAST_SCORE), truth)) for outputs in (ann, snn)
    )
    details = {
        "faces": sum(len(boxes.scores) for boxes in truth),
        "sqnr_db": {name: sqnr_db(*pair) for name, *pair in zip(("scores", "boxes"), ann, snn, strict=True)},
    }
    return bootstrapped(ann_precision, snn_precision, len(images), details)


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
