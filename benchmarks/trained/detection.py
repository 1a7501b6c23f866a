"""Detectors in ONNX files on the few images of COCO, which are cross-validated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.real_data import require_data
from benchmarks.trained.photographs import batches_of, coco_folds, outputs_of
from benchmarks.trained.task import Figures, Task
from snnconvert.models.onnx.model import load_onnx

Outputs = list[Tensor]


def detector_task(
    model: str,
    metric: str,
    read_input: Callable[[Path], Tensor],
    batch: int,
    figures: Callable[[Outputs, Outputs, list[Path]], Figures],
    images: int | None,
) -> Task:
    """A detector with four folds, each of which has three quarters of the images to calibrate on and the other one.

    Args:
        model: the name of its file.
        metric: what is measured.
        read_input: gives the network's input of an image.
        batch: how many images the network gets at once.
        figures: the metric of all outputs of ANN and SNN for some images.
        images: how many of a quarter to evaluate on at most.
    """
    folder = require_data("detection")
    folds = coco_folds(folder, images)
    ann = load_onnx(folder / model).module

    def batches(paths: list[Path]) -> Iterator[Tensor]:
        return batches_of(map(read_input, paths), batch)

    def judged(snns: Sequence[nn.Module]) -> Figures:
        evaluated = [paths for paths, _ in folds[: len(snns)]]
        before = _joined(outputs_of(ann, batches(paths)) for paths in evaluated)
        after = _joined(outputs_of(snn, batches(paths)) for snn, paths in zip(snns, evaluated, strict=True))
        return figures(before, after, [path for paths in evaluated for path in paths])

    calibrations = [partial(batches, calibration) for _, calibration in folds]
    return Task(model, metric, ann, calibrations, f"{len(folds[0][1])} other images of COCO", judged)


def _joined(parts: Iterable[Outputs]) -> Outputs:
    """Every output for the images of all parts."""
    return [torch.cat(of_output) for of_output in zip(*parts, strict=True)]
