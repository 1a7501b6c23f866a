"""The CIFAR ResNets on CIFAR-10."""

from __future__ import annotations

import torch

from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import require_data
from benchmarks.trained.classification import measure_classifier
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig

_CALIBRATION_IMAGES, _BATCH = 512, 100


def measure(depth: int, images: int | None = None, config: ConversionConfig | None = None) -> Result:
    """Accuracy of both networks on test images; calibrated on the first 512 training images.

    Args:
        depth: 20 or 44.
        images: how many to evaluate on at most.
        config: the settings; None for the default ones.
    """
    folder = require_data("cifar10")
    calibration, _ = load_cifar_images(folder, "train", _CALIBRATION_IMAGES)
    evaluated = (torch.split(part, _BATCH) for part in load_cifar_images(folder, "test", images))
    return measure_classifier(
        f"ResNet-{depth}, CIFAR-10",
        load_cifar_resnet(folder, depth),
        calibration,
        f"{_CALIBRATION_IMAGES} training images",
        zip(*evaluated, strict=True),
        config,
    )
