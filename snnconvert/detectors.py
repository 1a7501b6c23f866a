"""The detectors of torchvision: which of their submodules are neural networks, and what the rest does.

Proposals, non-maximum suppression and RoIAlign depend on the data, so that a detector can't be captured as a
whole; its parts between them can.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.inputs import Inputs


@dataclass(frozen=True)
class DetectorParts:
    """What is converted of a detector, and why the rest isn't.

    Attributes:
        parts: names of the submodules to convert, if the model has them.
        outside: reason for each submodule that stays.
    """

    parts: tuple[str, ...]
    outside: Mapping[str, str]


_TRANSFORM = {"transform": "preprocessing: resizes, normalizes and pads the images, and scales boxes back"}
_ANCHORS = "postprocessing: lays out anchors, no activations"
_ROI = "RoIAlign: crops features at data-dependent boxes"
_TWO_STAGE = DetectorParts(
    (
        "backbone",
        "rpn.head",
        "roi_heads.box_head",
        "roi_heads.box_predictor",
        "roi_heads.mask_head",
        "roi_heads.mask_predictor",
        "roi_heads.keypoint_head",
        "roi_heads.keypoint_predictor",
    ),
    {
        **_TRANSFORM,
        "rpn.anchor_generator": _ANCHORS,
        "rpn": "postprocessing: decodes proposals and suppresses non-maxima",
        "roi_heads.box_roi_pool": _ROI,
        "roi_heads.mask_roi_pool": _ROI,
        "roi_heads.keypoint_roi_pool": _ROI,
        "roi_heads": "postprocessing: decodes boxes and suppresses non-maxima",
    },
)
_ONE_STAGE = DetectorParts(
    ("backbone", "head"),
    {**_TRANSFORM, "anchor_generator": _ANCHORS, "": "postprocessing: decodes boxes and suppresses non-maxima"},
)


def _table() -> tuple[tuple[type[nn.Module], DetectorParts], ...]:
    from torchvision.models import detection

    return (
        (detection.FasterRCNN, _TWO_STAGE),  # MaskRCNN and KeypointRCNN are FasterRCNNs
        (detection.RetinaNet, _ONE_STAGE),
        (detection.FCOS, _ONE_STAGE),
        (detection.ssd.SSD, _ONE_STAGE),  # SSDLite is an SSD
    )


def detector_parts(model: nn.Module) -> DetectorParts | None:
    """What to convert of a detector of torchvision; None for any other model."""
    if "torchvision.models.detection" not in sys.modules:  # slow to import, and no detector without it
        return None
    for kind, found in _table():
        if isinstance(model, kind):
            names = {name for name, _ in model.named_modules()}
            outside = {name: reason for name, reason in found.outside.items() if name in names}
            return DetectorParts(tuple(name for name in found.parts if name in names), outside)
    return None


def detector_inputs(item: Any, index: int) -> Inputs:
    """The call of a detector for one item of a loader.

    Args:
        item: a list of images [C, H, W] of any sizes, a tensor [N, C, H, W], an (images, targets) pair of
            either, one (image, target) pair, or Inputs.
        index: its number, for the error.

    Raises:
        InputError: on anything else, or NaN or Inf.
    """
    if isinstance(item, Inputs):
        return item
    images = list(_images(item))
    if not images:
        raise InputError(
            f"batch {index} is {type(item).__name__}, not images [C, H, W] in a list, a tensor [N, C, H, W] or an "
            "(images, targets) pair: pass transform= to turn it into one"
        )
    if not all(bool(torch.isfinite(image).all()) for image in images):
        raise InputError(f"batch {index} holds NaN or Inf: clean the calibration images")
    return Inputs(images)


def _images(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        if item.dim() in (3, 4):
            yield from [item.float()] if item.dim() == 3 else item.float()
    elif isinstance(item, (tuple, list)) and item:
        if all(isinstance(part, Tensor) and part.dim() == 3 for part in item):
            yield from (part.float() for part in item)
        else:
            yield from _images(item[0])
