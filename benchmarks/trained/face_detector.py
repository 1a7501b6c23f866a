"""The Ultra-Light face detector RFB-320, an ONNX file with two outputs, on images of COCO without labels of faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

import snnconvert
from benchmarks.real_data import require_data
from benchmarks.trained.photographs import batches_of, coco_images, outputs_of, read_pixels, resized, sqnr_db
from benchmarks.trained.result import Result
from snnconvert.models.onnx.model import load_onnx

_HEIGHT, _WIDTH, _BATCH = 240, 320, 16
_LEAST_SCORE, _NMS_IOU, _SAME_IOU = 0.7, 0.3, 0.5


def measure(images: int | None = None) -> Result:
    """Share of the faces either network finds that the other finds, too; calibrated on 16 other images.

    Args:
        images: how many to evaluate on at most.
    """
    folder = require_data("detection")
    evaluated, calibration = coco_images(folder, images)
    model = folder / "version-RFB-320.onnx"
    snn: Any = snnconvert.convert(model, batches_of(map(read_input, calibration), _BATCH), progress=False)
    networks: tuple[nn.Module, ...] = (load_onnx(model).module, snn)
    ann_outputs, snn_outputs = (
        outputs_of(network, batches_of(map(read_input, evaluated), _BATCH)) for network in networks
    )
    ann_faces, snn_faces = faces(*ann_outputs), faces(*snn_outputs)
    kept, confirmed = matched(ann_faces, snn_faces), matched(snn_faces, ann_faces)
    both, total = sum(kept) + sum(confirmed), len(kept) + len(confirmed)
    details = {
        "ann_faces": len(kept),
        "ann_faces_found": sum(kept),
        "snn_faces": len(confirmed),
        "snn_faces_confirmed": sum(confirmed),
        "scores_sqnr_db": sqnr_db(ann_outputs[0], snn_outputs[0]),
        "boxes_sqnr_db": sqnr_db(ann_outputs[1], snn_outputs[1]),
    }
    return Result(
        "version-RFB-320.onnx",
        "agreement on faces",
        1.0,
        both / total if total else 1.0,
        len(evaluated),
        f"{len(calibration)} other images of COCO",
        snn.report,
        details,
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


def matched(found: Sequence[Tensor], others: Sequence[Tensor]) -> list[bool]:
    """Of each box whether some other box of the same image is nearly the same."""
    result: list[bool] = []
    for boxes, candidates in zip(found, others, strict=True):
        overlaps = torch.cat([box_iou(boxes, candidates), torch.zeros(len(boxes), 1)], 1)
        result += (overlaps.max(1).values > _SAME_IOU).tolist()
    return result
