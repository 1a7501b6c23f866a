"""A small network without biases on MNIST."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.real_data import require_data
from benchmarks.trained.classification import classifier_task, split_batches
from benchmarks.trained.task import Task

_CALIBRATION_IMAGES, _BATCH = 256, 500
_PIXELS_AT, _LABELS_AT = 16, 8


def task(images: int | None = None) -> Task:
    """Accuracy on test images; calibrated on the first 256 of them, which are left out.

    Args:
        images: how many to evaluate on at most.
    """
    folder = require_data("mnist")
    pixels, labels = load_mnist_images(folder)
    evaluated, classes = (part[_CALIBRATION_IMAGES:][:images] for part in (pixels, labels))
    return classifier_task(
        "MNIST, sinabs",
        load_mnist_network(folder),
        lambda: pixels[:_CALIBRATION_IMAGES],
        f"{_CALIBRATION_IMAGES} other test images",
        partial(split_batches, evaluated, classes, _BATCH),
    )


def load_mnist_network(folder: Path) -> nn.Module:
    """Convolutions with 20, 32 and 128 filters and two linear layers, in evaluation mode.

    Args:
        folder: the folder of the weights.
    """
    network = nn.Sequential(
        nn.Conv2d(1, 20, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(20, 32, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(32, 128, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(128, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False),
    )  # fmt: skip
    state = torch.load(folder / "mnist_params.pt", weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network.eval()


def load_mnist_images(folder: Path) -> tuple[Tensor, Tensor]:
    """The test images float32 [N, 1, 28, 28] in 0..1 and their labels int64 [N].

    Args:
        folder: the folder of the images.
    """
    pixels = _read_idx(folder / "t10k-images-idx3-ubyte.gz", _PIXELS_AT).view(-1, 1, 28, 28)
    labels = _read_idx(folder / "t10k-labels-idx1-ubyte.gz", _LABELS_AT)
    return pixels.float() / 255, labels.long()


def _read_idx(path: Path, offset: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=offset).copy())
