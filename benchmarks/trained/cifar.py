"""The CIFAR ResNets on CIFAR-10."""

from __future__ import annotations

from functools import partial

from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import require_data
from benchmarks.trained.classification import classifier_task, split_batches
from benchmarks.trained.task import Task

_CALIBRATION_IMAGES, _BATCH = 512, 100


def task(depth: int, images: int | None = None) -> Task:
    """Accuracy on test images; calibrated on the first 512 training images.

    Args:
        depth: 20 or 44.
        images: how many to evaluate on at most.
    """
    folder = require_data("cifar10")
    calibration, _ = load_cifar_images(folder, "train", _CALIBRATION_IMAGES)
    return classifier_task(
        f"ResNet-{depth}, CIFAR-10",
        load_cifar_resnet(folder, depth),
        lambda: calibration,
        f"{_CALIBRATION_IMAGES} training images",
        partial(split_batches, *load_cifar_images(folder, "test", images), _BATCH),
    )
