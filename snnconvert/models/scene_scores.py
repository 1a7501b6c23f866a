"""Mean average precision and mean IoU on scenes, by torchmetrics (the extra ``tasks``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from snnconvert.data.scenes import SCENE_CLASSES, Scene

_BATCH = 16


def detection_scores(
    detector: Callable[[list[Tensor]], list[dict[str, Tensor]]], scenes: Iterable[Scene]
) -> dict[str, float]:
    """COCO's average precision of the boxes, the mean over the classes.

    Args:
        detector: Gives for a list of images what torchvision's detectors give.
        scenes: Images and truth.

    Returns:
        "map", the mean over IoU from 0.5 to 0.95, and "map_50", at IoU 0.5; in 0..1.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="pycocotools")
    with torch.inference_mode():
        for some in _batches(scenes):
            metric.update(list(detector([scene.image for scene in some])), [scene.target for scene in some])
    result = metric.compute()
    return {name: float(result[name]) for name in ("map", "map_50")}


def segmentation_scores(network: nn.Module, scenes: Iterable[Scene]) -> dict[str, float]:
    """Intersection over union of the pixels of all scenes, the mean over the classes with the background.

    Args:
        network: Gives logits [N, classes, H, W], which may be a dict's "out".
        scenes: Images and truth.

    Returns:
        "miou", in 0..1.
    """
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(len(SCENE_CLASSES))
    with torch.inference_mode():
        for some in _batches(scenes):
            decided = dense_logits(network(torch.stack([scene.image for scene in some]))).argmax(1)
            metric.update(decided, torch.stack([scene.mask for scene in some]))
    return {"miou": float(metric.compute())}


def dense_logits(output: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The logits [N, classes, H, W] of a segmenter: its output, or "out" of the dict that torchvision's give."""
    return output["out"] if isinstance(output, Mapping) else output


def _batches(scenes: Iterable[Scene]) -> Iterable[Sequence[Scene]]:
    remaining = iter(scenes)
    while some := list(islice(remaining, _BATCH)):
        yield some
