"""Semantic segmentation: mean intersection over union of ANN and SNN on the same masks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.evaluation import compare_outputs
from snnconvert.report.schema import Metric
from snnconvert.tasks.bootstrap import RESAMPLES, Statistic, bootstrapped_difference, once
from snnconvert.tasks.evaluation import (
    TaskEvaluation,
    device_of,
    items,
    tasks_module,
)

VOID = 255
_LOGITS = ("out", "logits")
_UNLABELLED = "no masks: agreement with the ANN is reported instead of mIoU"


def evaluate_segmentation(
    ann: nn.Module,
    snn: nn.Module,
    loader: Iterable[Any],
    *,
    void: int = VOID,
    seed: int = 0,
    measured_on: str = "evaluation images",
) -> TaskEvaluation:
    """Mean IoU = mean over classes of Σ|decided and true| / Σ|decided or true|, sums over the pixels of all images.

    Void pixels don't count, nor do classes that occur neither in the masks nor in the decisions. Logits of another
    height and width than a mask are interpolated to the mask's (bilinear), so that every labelled pixel counts once.
    The agreement is the share of the outputs' own pixels with the same class. The interval is that of the paired
    bootstrap over images.

    Args:
        ann: the original network, in evaluation mode: images [N, C, H, W] to logits [N, classes, h, w], which may be
            a dict's "out" or "logits", or a tuple's first tensor.
        snn: the converted one.
        loader: images, or (images, masks) pairs: masks int64 [N, H, W], or a list of [H, W] of any sizes.
        void: the value of pixels that don't count.
        seed: of the bootstrap.
        measured_on: words for the images.

    Raises:
        InputError: if there are no images, an item or an output is of another form, a mask holds a value that is
            neither a class nor void, or torchmetrics isn't installed.
    """
    overlaps = _Overlaps(void)
    with torch.no_grad():
        evaluation = compare_outputs(_outputs(ann, snn, loader, overlaps))
    metric = overlaps.metric(seed)
    return TaskEvaluation(
        task="segmentation",
        metrics=() if metric is None else (metric,),
        fidelity=evaluation.fidelity(measured_on),
        images=evaluation.images,
        notes=() if metric is not None else (_UNLABELLED if not overlaps.images else "all pixels are void: no mIoU",),
    )


def segmentation_logits(output: Any) -> Tensor:
    """The logits [N, classes, H, W] of an output: a tensor, a dict's "out" or "logits", or a tuple's first tensor.

    Raises:
        InputError: if there are none.
    """
    found = logits_of(output)
    if found.dim() != 4 or not found.is_floating_point():
        raise InputError(f"segmentation needs logits [N, classes, H, W], the network returns {tuple(found.shape)}")
    return found


def logits_of(output: Any) -> Tensor:
    """The tensor of an output that holds the logits: itself, a dict's "out" or "logits", or a tuple's first tensor.

    Raises:
        InputError: if there is none.
    """
    found = output
    if isinstance(output, Mapping):
        found = next((output[key] for key in _LOGITS if key in output), None)
        if found is None:
            keys = ", ".join(map(str, output))
            raise InputError(f"the network returns a dict of {keys}: segmentation needs 'out' or 'logits'")
    elif isinstance(output, (tuple, list)) and output:
        found = output[0]
    if not isinstance(found, Tensor):
        raise InputError(f"segmentation needs logits [N, classes, H, W], the network returns {type(found).__name__}")
    return found


class _Overlaps:
    """Intersections and unions of every class in every image, of both networks."""

    def __init__(self, void: int) -> None:
        self.void = void
        self.found: tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]] = ([], [])

    @property
    def images(self) -> int:
        return len(self.found[0])

    def add(self, logits: tuple[Tensor, Tensor], mask: Tensor) -> None:
        """One image: logits [classes, H, W] of both networks, and its mask [H, W]."""
        for kept, of_network in zip(self.found, logits, strict=True):
            kept.append(overlap(of_network, mask, self.void))

    def metric(self, seed: int) -> Metric | None:
        """None if no pixel counts."""
        if not self.images:
            return None
        ann, snn = (overlap_statistic(part) for part in self.found)
        before, after = float(ann(once(self.images))), float(snn(once(self.images)))
        if math.isnan(before):
            return None
        interval = bootstrapped_difference(ann, snn, self.images, resamples=RESAMPLES, seed=seed)
        return Metric("mIoU", before, after, self.images, interval)


def overlap_statistic(overlaps: Sequence[tuple[Tensor, Tensor]]) -> Statistic:
    """Mean IoU of resampled images, from the intersections and unions of each."""
    intersections, unions = (torch.stack([pair[which] for pair in overlaps]) for which in (0, 1))
    return partial(mean_iou, intersections, unions)


def overlap(logits: Tensor, mask: Tensor, void: int = VOID) -> tuple[Tensor, Tensor]:
    """Pixels in the intersection and in the union of decided and true, of each class, float64 [classes] each.

    Args:
        logits: [classes, h, w], interpolated to the mask's size.
        mask: int64 [H, W].
        void: the value of pixels that don't count.

    Raises:
        InputError: if torchmetrics isn't installed.
    """
    functional = tasks_module("torchmetrics.functional.classification")
    if logits.shape[1:] != mask.shape:
        logits = F.interpolate(logits[None].float(), mask.shape, mode="bilinear", align_corners=False)[0]
    classes = len(logits)
    decided, truth = logits.argmax(0).cpu(), mask.cpu()
    scores = functional.multiclass_stat_scores(
        decided[None], truth[None], num_classes=classes, average=None, ignore_index=void, validate_args=False
    )
    right, wrong, missed = scores[:, 0], scores[:, 1], scores[:, 3]
    if 0 <= void < classes:  # a class that is void has no overlap to judge
        right[void] = wrong[void] = missed[void] = 0
    return right.double(), (right + wrong + missed).double()


def mean_iou(intersections: Tensor, unions: Tensor, counts: Tensor) -> Tensor:
    """Mean IoU of images that count several times each, over the classes whose union isn't empty.

    Args:
        intersections: of each image and class, float64 [N, classes].
        unions: the same.
        counts: how often each image counts, float64 [R, N].

    Returns:
        float64 [R]; NaN where no pixel counts.
    """
    shared, either = counts @ intersections, counts @ unions
    return torch.where(either > 0, shared / either.clamp(min=1), torch.nan).nanmean(1)


def _outputs(
    ann: nn.Module, snn: nn.Module, loader: Iterable[Any], overlaps: _Overlaps
) -> Iterator[tuple[int, Tensor, Tensor, None]]:
    """What :func:`compare_outputs` takes, while masks are compared on the way."""
    device, total = device_of(ann), 0
    for index, item in items(loader):
        images, masks = _images_and_masks(item, index)
        images = images.to(device)
        logits = segmentation_logits(ann(images)), segmentation_logits(snn(images))
        if len(logits[0]) != len(images):
            raise InputError(f"the network returns {len(logits[0])} outputs for {len(images)} images")
        if overlaps.images not in ((total,) if masks else (0,)):
            raise InputError("some images have masks and some have none: give all or none")
        total += len(images)
        for number, mask in enumerate(masks):
            check_classes(mask, logits[0].shape[1], overlaps.void, f"mask {number} of batch {index}")
            overlaps.add((logits[0][number], logits[1][number]), mask.to(device))
        yield len(images), *logits, None


def _images_and_masks(item: Any, index: int) -> tuple[Tensor, Sequence[Tensor]]:
    images, masks = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
    if isinstance(images, (tuple, list)) and images and all(isinstance(image, Tensor) for image in images):
        if len({image.shape for image in images}) > 1:
            raise InputError(f"batch {index} holds images of different sizes: resize them, or give them one by one")
        images = torch.stack(tuple(images))
    if not isinstance(images, Tensor) or images.dim() != 4 or not len(images):
        raise InputError(f"batch {index} is not images [N, C, H, W] or an (images, masks) pair")
    if not bool(torch.isfinite(images).all()):
        raise InputError(f"evaluation batch {index} holds NaN or Inf")
    if masks is None:
        return images.float(), ()
    found = [_mask(mask, index) for mask in masks]
    if len(found) != len(images):
        raise InputError(f"batch {index} holds {len(found)} masks for {len(images)} images: give one each")
    return images.float(), found


def _mask(mask: Any, index: int) -> Tensor:
    if isinstance(mask, Tensor) and mask.dim() == 3 and len(mask) == 1:
        mask = mask[0]
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.is_floating_point() or not mask.numel():
        shape = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"a mask of batch {index} is {shape}: masks are integers [H, W], a class a pixel")
    return mask.long()


def check_classes(mask: Tensor, classes: int, void: int, where: str) -> None:
    """Refuses a mask that holds a value which is neither a class nor void.

    Raises:
        InputError: naming it.
    """
    wrong = mask[(mask != void) & ((mask < 0) | (mask >= classes))]
    if len(wrong):
        raise InputError(
            f"{where} holds the class {int(wrong[0])}: the network has the classes 0 to {classes - 1}, void is {void}"
        )
