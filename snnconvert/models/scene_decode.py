"""From the outputs of the anchor-free detector to boxes."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

Predictions: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Class logits [N, C, h, w], box logits [N, 4, h, w] and centre logits [N, 1, h, w] of locations ``STRIDE`` apart."""

STRIDE = 8
_LARGEST_LOGIT = 4.0


def locations(height: int, width: int) -> Tensor:
    """Centres (x, y) in pixels of a grid's locations, float32 [height · width, 2], row by row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5) * STRIDE


def boxes_of(logits: Tensor, points: Tensor) -> Tensor:
    """Boxes whose left, top, right and bottom edges are ``STRIDE``·exp(logit) away from their locations.

    Args:
        logits: [..., L, 4].
        points: (x, y) [L, 2].

    Returns:
        (x1, y1, x2, y2) [..., L, 4].
    """
    distances = STRIDE * logits.clamp(max=_LARGEST_LOGIT).exp()
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


def decode(
    predictions: Predictions,
    image_size: tuple[int, int],
    *,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.6,
    most: int = 100,
) -> list[dict[str, Tensor]]:
    """The boxes that are left after non-maximum suppression within each class.

    A box's score is √(σ(class logit)·σ(centre logit)).

    Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, with the square root of
    the authors' later code.

    Args:
        predictions: Of N images.
        image_size: Height and width; boxes are clipped to it.
        score_threshold: Least score of a box.
        nms_threshold: IoU from which the worse of two boxes is dropped.
        most: Boxes of an image at most.

    Returns:
        For each image "boxes" [K, 4], "labels" int64 [K] from 1 up, and "scores" [K], the best first.
    """
    classes, boxes, centres = (part.detach().float().flatten(2).transpose(1, 2) for part in predictions)
    points = locations(*predictions[0].shape[-2:]).to(boxes.device)
    scores = (classes.sigmoid() * centres.sigmoid()).sqrt()
    corners = clip_boxes_to_image(boxes_of(boxes, points), image_size)
    return [_suppressed(*pair, score_threshold, nms_threshold, most) for pair in zip(corners, scores, strict=True)]


def _suppressed(
    corners: Tensor, scores: Tensor, score_threshold: float, nms_threshold: float, most: int
) -> dict[str, Tensor]:
    where, which = torch.nonzero(scores > score_threshold, as_tuple=True)
    boxes, found = corners[where], scores[where, which]
    kept = batched_nms(boxes, found, which, nms_threshold)[:most]
    return {"boxes": boxes[kept], "labels": which[kept] + 1, "scores": found[kept]}
