"""The pair of image sets a conversion works with."""

from __future__ import annotations

from dataclasses import dataclass

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
