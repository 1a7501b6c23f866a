"""What an evaluation on a task yields, and what the tasks' evaluations share."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from snnconvert.errors import InputError
from snnconvert.report.schema import Fidelity, Metric

CLASSIFICATION, SEGMENTATION, DETECTION = TASKS = ("classification", "segmentation", "detection")
DETECTION_RESAMPLES = 300


@dataclass(frozen=True)
class TaskEvaluation:
    """How well ANN and SNN do a task on the same images.

    Attributes:
        task: "classification", "segmentation" or "detection".
        metrics: the task's own metric first; empty where nothing defines one, such as without labels.
        fidelity: how closely the SNN follows the ANN; None for detectors, whose boxes have no counterparts.
        images: number of images.
        notes: what the reader has to know, such as why a metric is missing.
    """

    task: str
    metrics: tuple[Metric, ...]
    fidelity: Fidelity | None
    images: int
    notes: tuple[str, ...] = ()

    @property
    def metric(self) -> Metric | None:
        """The task's own metric."""
        return self.metrics[0] if self.metrics else None


def tasks_module(name: str) -> ModuleType:
    """A module of the extra ``tasks``.

    Raises:
        InputError: if it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(
            f"metrics of segmentation and detection need {package}: pip install 'snnconvert[tasks]'"
        ) from None


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes."""
    tensors = (*network.parameters(), *network.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def no_images() -> InputError:
    """The error of an empty loader."""
    return InputError("there are no images to evaluate on")


def items(loader: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    """The numbered items of a loader.

    Raises:
        InputError: if it isn't iterable.
    """
    if not isinstance(loader, Iterable):
        raise InputError(f"the evaluation loader is {type(loader).__name__}: give it an iterable of batches")
    return enumerate(loader)
