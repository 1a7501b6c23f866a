"""The real detectors that can be trained on photographs without labels: what they see, learn and are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from benchmarks.trained import face_detector, fastest_det
from benchmarks.trained.detection import Outputs
from benchmarks.trained.fastest_det import corners_of, scores_of
from benchmarks.trained.photographs import batches_of, outputs_of
from benchmarks.trained.task import Figures

_CALIBRATION = 64
_BATCH = 8
_TINY = 1e-6
_IOU_WEIGHT = 2.0
_CORNER_WEIGHT = 20.0
_CORNER_BETA = 0.02
_REST = 5


@dataclass(frozen=True)
class DetectorCourse:
    """How a detector learns what its ANN sees.

    Attributes:
        file: of the ANN.
        metric: what it is judged by.
        read_pixels: a photograph, float32 [3, H, W] in 0..1.
        prepared: what the network gets of such pixels.
        chosen: of all photographs those to calibrate on, and those to learn from, some perhaps twice.
        distance: from the ANN's outputs.
        figures: of ANN and SNN on labelled images.
    """

    file: str
    metric: str
    read_pixels: Callable[[Path], Tensor]
    prepared: Callable[[Tensor], Tensor]
    chosen: Callable[[nn.Module, Sequence[Path]], tuple[list[Path], list[Path]]]
    distance: Callable[[Any, Any], Tensor]
    figures: Callable[[Outputs, Outputs, list[Path]], Figures]

    def read_input(self, path: Path) -> Tensor:
        """What the network gets of a photograph."""
        return self.prepared(self.read_pixels(path))


def _evenly(_: nn.Module, paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    return list(paths[:: max(len(paths) // _CALIBRATION, 1)]), list(paths)


def _as_it_is(pixels: Tensor) -> Tensor:
    return pixels


def object_distance(output: Tensor, reference: Tensor) -> Tensor:
    """How far outputs [N, 5 + classes, H, W] are from the ANN's: boxes and classes count where the ANN sees objects.

    Objectness: cross-entropy with the ANN's, less its entropy. Classes: KL. Boxes: generalized IoU loss. Sums over
    cells, those of classes and boxes weighted by the ANN's score w, all divided by Σ w.
    """
    weight = scores_of(reference)
    found, wanted = (part[:, 0].clamp(_TINY, 1 - _TINY) for part in (output, reference))
    objects = wanted * (wanted / found).log() + (1 - wanted) * ((1 - wanted) / (1 - found)).log()
    likely, known = (part[:, 5:].clamp_min(_TINY) for part in (output, reference))
    classes = (known * (known / likely).log()).sum(1).flatten(1)
    pairs = (corners_of(part).flatten(0, 1) for part in (output, reference))
    boxes = generalized_box_iou_loss(*pairs).view_as(weight)
    total: Tensor = objects.sum() + (weight * (classes + _IOU_WEIGHT * boxes)).sum()
    return total / weight.sum().clamp(min=1)


def face_distance(output: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
    """KL of scores [N, boxes, 2] and smooth L1 of corners [N, boxes, 4], these weighted by the ANN's scores of faces.

    Sums over boxes, divided by the sum of those weights.
    """
    (likely, corners), (known, wanted) = output.values(), reference.values()
    known, likely = known.clamp(_TINY, 1), likely.clamp(_TINY, 1)
    weight = known[..., 1]
    scores = (known * (known / likely).log()).sum()
    boxes = F.smooth_l1_loss(corners, wanted, reduction="none", beta=_CORNER_BETA).sum(-1)
    return (scores + _CORNER_WEIGHT * (weight * boxes).sum()) / weight.sum().clamp(min=1)


def _mostly_faces(ann: nn.Module, paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those in which the ANN is surest of a face; those with faces twice, and each fifth of the others."""
    scores, _ = outputs_of(ann, batches_of(map(face_detector.read_input, paths), _BATCH))
    surest = scores[..., 1].amax(1)
    ordered = [paths[index] for index in surest.argsort(descending=True).tolist()]
    count = int((surest > face_detector.FACE_SCORE).sum())
    return ordered[:_CALIBRATION], 2 * ordered[:count] + ordered[count::_REST]


def _face_pixels(path: Path) -> Tensor:
    return (face_detector.read_input(path) * 128 + 127) / 255


def _face_input(pixels: Tensor) -> Tensor:
    return (pixels * 255 - 127) / 128


COURSES: Mapping[str, DetectorCourse] = {
    "fastestdet": DetectorCourse(
        "FastestDet.onnx", "mAP50", fastest_det.read_input, _as_it_is, _evenly, object_distance,
        fastest_det.figures,
    ),
    "faces": DetectorCourse(
        "version-RFB-320.onnx", "AP50 on its own faces", _face_pixels, _face_input, _mostly_faces,
        face_distance, face_detector.figures,
    ),
}  # fmt: skip


class Prepared:
    """A dataset's samples as a network gets them."""

    def __init__(self, samples: Any, prepared: Callable[[Tensor], Tensor]) -> None:
        self._samples, self._prepared = samples, prepared

    def __len__(self) -> int:
        """As many samples as there are."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Tensor:
        """One of them."""
        return self._prepared(self._samples[index])
