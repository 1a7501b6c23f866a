"""The pair of image sets a conversion works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True)
class ImageSets:
    """Images to calibrate on and images to evaluate on; no image is in both.

    Items are (float32 tensor [C, H, W], int label), the label -1 where none is known.

    Attributes:
        calibration: Images whose activations set the thresholds.
        evaluation: Images that measure accuracy or agreement.
        labelled: Whether the labels of `evaluation` are real.
        description: One sentence for the report: what, how many, how split.
    """

    calibration: Dataset[tuple[Tensor, int]]
    evaluation: Dataset[tuple[Tensor, int]]
    labelled: bool
    description: str


@dataclass(frozen=True)
class TaskSets:
    """Images to calibrate on and images with targets to evaluate on; no image is in both.

    Attributes:
        calibration: Items are float32 tensors [C, H, W].
        evaluation: Items are (float32 tensor [C, H, W], target) pairs, or tensors alone where nothing is labelled.
        labelled: Whether there are targets.
        description: One sentence for the report: what, how many, how split.
    """

    calibration: Dataset[Any]
    evaluation: Dataset[Any]
    labelled: bool
    description: str
