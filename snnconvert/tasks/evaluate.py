"""Evaluation of an ANN and its conversion on a task, by the task's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.evaluation import compare_outputs
from snnconvert.tasks.detection import evaluate_detection
from snnconvert.tasks.evaluation import TASKS, TaskEvaluation, device_of, items
from snnconvert.tasks.segmentation import evaluate_segmentation


def evaluate(
    ann: nn.Module, snn: nn.Module, loader: Iterable[Any], task: str = "classification", **settings: Any
) -> TaskEvaluation:
    """How well ANN and SNN do a task on the same images.

    Args:
        ann: the original network, in evaluation mode.
        snn: the converted one, a :class:`~snnconvert.spiking_model.SpikingModel` or a
            :class:`~snnconvert.hybrid.HybridModel`.
        loader: images, or (images, targets) pairs as torchvision gives them: labels int64 [N] (classification),
            masks int64 [N, H, W] (segmentation), dicts of boxes and labels (detection).
        task: "classification" (top-1 accuracy), "segmentation" (mIoU) or "detection" (mAP).
        settings: of the task: see :func:`evaluate_segmentation` (``void``) and :func:`evaluate_detection`
            (``score``, ``resamples``).

    Raises:
        InputError: if there is no such task or setting, there are no images, or an item is of another form.
    """
    evaluators = {
        "classification": evaluate_classification,
        "segmentation": evaluate_segmentation,
        "detection": evaluate_detection,
    }
    if task not in evaluators:
        raise InputError(f"task {task!r} is none of {', '.join(TASKS)}")
    known = evaluators[task].__kwdefaults__ or {}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"{task} has no setting {unknown[0]!r}: it has {', '.join(known)}")
    result: TaskEvaluation = evaluators[task](ann, snn, loader, **settings)  # type: ignore[operator]
    return result


def evaluate_classification(
    ann: nn.Module, snn: nn.Module, loader: Iterable[Any], *, measured_on: str = "evaluation images"
) -> TaskEvaluation:
    """Top-1 accuracy with the 95 % interval of the paired difference, and agreement.

    Args:
        ann: the original network, in evaluation mode: images to logits [N, classes], also as a dict's "logits".
        snn: the converted one.
        loader: images [N, ...], or (images, labels int64 [N]) pairs.
        measured_on: words for the images.

    Raises:
        InputError: if there are no images, an item is of another form, or only some are labelled.
    """
    device, labelled = device_of(ann), set()

    def outputs() -> Iterator[tuple[int, Any, Any, Tensor | None]]:
        for index, item in items(loader):
            images, labels = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
            if not isinstance(images, Tensor) or images.dim() < 2 or not isinstance(labels, (Tensor, type(None))):
                raise InputError(f"batch {index} is not images [N, ...] or an (images, labels) pair of tensors")
            labelled.add(labels is not None)
            if len(labelled) > 1:
                raise InputError("some images have labels and some have none: give all or none")
            images = images.to(device)
            yield len(images), ann(images), snn(images), None if labels is None else labels.to(device)

    with torch.no_grad():
        evaluation = compare_outputs(outputs())
    metrics = (evaluation.metric(),) if labelled == {True} else ()
    notes = () if metrics else ("no labels: fidelity to the ANN is reported instead of accuracy",)
    return TaskEvaluation("classification", metrics, evaluation.fidelity(measured_on), evaluation.images, notes)
