"""timm's MobileNetV2 on photographs with the classes of ImageNet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.real_data import require_data
from benchmarks.trained.classification import classifier_task
from benchmarks.trained.photographs import batches_of
from benchmarks.trained.task import Task
from snnconvert.data.pixels import read_image
from snnconvert.data.preprocessing import Preprocessing, timm_preprocessing

_MODEL, _BATCH = "mobilenetv2_100", 25


def task(images: int | None = None) -> Task:
    """Accuracy on the labelled images; calibrated on the unlabelled ones.

    Args:
        images: how many to evaluate on at most.
    """
    folder = require_data("imagenet")
    ann = load_mobilenet(folder)
    preprocessing = timm_preprocessing(ann.pretrained_cfg)
    calibration = sorted((folder / "calib").iterdir())
    return classifier_task(
        "MobileNetV2, ImageNet",
        ann,
        lambda: batches_of((preprocessing(read_image(path)) for path in calibration), _BATCH),
        f"{len(calibration)} other photographs",
        partial(labelled_batches, read_labels(folder)[:images], preprocessing),
    )


def load_mobilenet(folder: Path) -> Any:
    """The trained network in evaluation mode.

    Args:
        folder: the folder of the weights.
    """
    network = timm.create_model(_MODEL)
    network.load_state_dict(load_file(folder / f"{_MODEL}.safetensors"))
    return network.eval()


def read_labels(folder: Path) -> list[tuple[Path, int]]:
    """The labelled images with the index of their class.

    Args:
        folder: the folder of ``val.csv`` and of the images, ``val/``.
    """
    with (folder / "val.csv").open(newline="", encoding="utf-8") as file:
        return [(folder / "val" / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]


def labelled_batches(labelled: list[tuple[Path, int]], preprocessing: Preprocessing) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as the network takes them, [N, 3, 224, 224], and their classes, int64 [N]."""
    for start in range(0, len(labelled), _BATCH):
        chosen = labelled[start : start + _BATCH]
        images = torch.stack([preprocessing(read_image(path)) for path, _ in chosen])
        yield images, torch.tensor([label for _, label in chosen])
