"""What the scene detector and the scene segmenters are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from snnconvert.models.scene_decode import STRIDE, Predictions, boxes_of, locations

_CENTRE_RADIUS = 1.5
_EDGE_WEIGHT = 3.0


@dataclass(frozen=True)
class Assignment:
    """What each of L locations of N images shall find.

    Attributes:
        labels: int64 [N, L]; 0: nothing.
        boxes: (x1, y1, x2, y2) [N, L, 4]; zeros where there is nothing.
        centreness: [N, L] in 0..1: √(min(l, r)/max(l, r) · min(t, b)/max(t, b)) of the distances to the box's edges.
    """

    labels: Tensor
    boxes: Tensor
    centreness: Tensor


def assign(points: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Assignment:
    """Gives each location the smallest box that it is inside of, and close to the centre of.

    Close is within 1.5 strides along either axis.

    Source: Tian et al., "FCOS", ICCV 2019, with centre sampling.

    Args:
        points: (x, y) [L, 2].
        boxes: [K, 4] of each image.
        labels: int64 [K] of each image, from 1 up.
    """
    assigned = [_assign_image(points, *pair) for pair in zip(boxes, labels, strict=True)]
    return Assignment(*(torch.stack(parts) for parts in zip(*assigned, strict=True)))


def _assign_image(points: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if len(boxes) == 0:
        nothing = torch.zeros(len(points))
        return nothing.long(), torch.zeros(len(points), 4), nothing
    distances = torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], -1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    close = (points[:, None] - centres).abs().amax(-1) < _CENTRE_RADIUS * STRIDE
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    cost = torch.where(close & (distances.amin(-1) > 0), areas, torch.inf)
    least, which = cost.min(1)
    found = least.isfinite()
    near = distances[torch.arange(len(points)), which].clamp(min=1e-3)
    across, down = near[:, 0::2], near[:, 1::2]
    ratios = across.amin(1) / across.amax(1) * down.amin(1) / down.amax(1)
    return labels[which] * found, boxes[which] * found[:, None], ratios.sqrt() * found


def detection_distance(predictions: Predictions, references: Predictions) -> Tensor:
    """How far a detector is from another one: of boxes and centres where the other one sees objects.

    Classes: cross entropy with the other's probabilities, less its entropy. Boxes: generalized IoU loss. Centres: as
    classes. Sums over locations, those of boxes and centres weighted by w = √(max_c σ(class)·σ(centre)) of the other,
    all divided by Σ w.

    Args:
        predictions: Of N images.
        references: The other detector's, of the same images.

    Returns:
        A scalar.
    """
    points = locations(*references[0].shape[-2:])
    classes, sides, centres = (part.flatten(2).transpose(1, 2) for part in predictions)
    wanted_classes, wanted_sides, wanted_centres = (part.flatten(2).transpose(1, 2) for part in references)
    weight = (wanted_classes.sigmoid().amax(-1) * wanted_centres[..., 0].sigmoid()).sqrt()
    of_classes = _excess_entropy(classes, wanted_classes).sum()
    of_boxes: Tensor = generalized_box_iou_loss(boxes_of(sides, points), boxes_of(wanted_sides, points))
    of_centres = _excess_entropy(centres, wanted_centres)[..., 0]
    return (of_classes + (weight * (of_boxes + of_centres)).sum()) / weight.sum().clamp(min=1)


def _excess_entropy(logits: Tensor, references: Tensor) -> Tensor:
    """Binary cross entropy with probabilities p = σ(references), less its least value, that at p."""
    wanted = references.sigmoid()
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") - F.binary_cross_entropy_with_logits(
        references, wanted, reduction="none"
    )


def detection_loss(predictions: Predictions, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """Focal loss of the classes, generalized IoU loss of the boxes, cross entropy of the centres.

    All are sums over the locations with a box (for the focal loss all locations), divided by the number of these.

    Args:
        predictions: Of N images.
        boxes: [K, 4] of each.
        labels: int64 [K] of each, from 1 up.

    Returns:
        A scalar.
    """
    points = locations(*predictions[0].shape[-2:])
    wanted = assign(points, boxes, labels)
    classes, sides, centres = (part.flatten(2).transpose(1, 2) for part in predictions)
    positive = wanted.labels > 0
    count = positive.sum().clamp(min=1)
    one_hot = F.one_hot(wanted.labels, classes.shape[-1] + 1)[..., 1:].to(classes)
    of_classes = sigmoid_focal_loss(classes, one_hot, reduction="sum")
    found = boxes_of(sides, points)[positive]
    of_boxes = generalized_box_iou_loss(found, wanted.boxes[positive], reduction="sum")
    of_centres = F.binary_cross_entropy_with_logits(
        centres[..., 0][positive], wanted.centreness[positive], reduction="sum"
    )
    return torch.as_tensor(of_classes + 2 * of_boxes + of_centres) / count


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of the pixels, those next to another class weighing four times as much.

    Args:
        logits: [N, classes, H, W].
        masks: int64 [N, H, W].

    Returns:
        A scalar.
    """
    values = masks[:, None].float()
    at_edge = F.max_pool2d(values, 3, 1, 1) != -F.max_pool2d(-values, 3, 1, 1)
    weights = 1 + _EDGE_WEIGHT * at_edge[:, 0].float()
    losses = F.cross_entropy(logits, masks, reduction="none")
    return (weights * losses).sum() / weights.sum()
