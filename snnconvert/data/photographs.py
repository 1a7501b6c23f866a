"""Crops of two photographs that come with scikit-learn: real image statistics without a download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import check_counts

_SMALLEST_CROP = 0.35
_UNKNOWN_LABEL = -1


class PhotographCrops(Dataset[tuple[Tensor, int]]):
    """Square crops of photographs at random places and scales, half of them mirrored.

    Crop number `index` depends on the seed and `index` alone, and comes from photograph
    `index % len(photographs)`. Items are (float32 tensor [C, H, W], -1).

    Args:
        photographs: uint8 [H, W, 3] each.
        count: Number of crops.
        preprocessing: Applied to every crop.
        seed: Same seed, same crops.
    """

    def __init__(
        self, photographs: Sequence[NDArray[np.uint8]], count: int, preprocessing: Preprocessing, seed: int
    ) -> None:
        self._photographs = tuple(photographs)
        self._count = count
        self._preprocessing = preprocessing
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self._count:
            raise IndexError(f"crop {index} of {self._count}")
        return self._preprocessing(Image.fromarray(self.crop(index))), _UNKNOWN_LABEL

    def crop(self, index: int) -> NDArray[np.uint8]:
        """Cuts out one crop.

        Args:
            index: Number of the crop.

        Returns:
            uint8 [side, side, 3], before any preprocessing.
        """
        photograph = self._photographs[index % len(self._photographs)]
        rng = np.random.default_rng((self._seed, index))
        height, width, _ = photograph.shape
        side = round(min(height, width) * rng.uniform(_SMALLEST_CROP, 1.0))
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        pixels = photograph[top : top + side, left : left + side]
        return np.ascontiguousarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)


def sample_photographs(
    preprocessing: Preprocessing,
    *,
    calibration_images: int = 128,
    evaluation_images: int = 128,
    seed: int = 0,
) -> ImageSets:
    """Makes unlabelled images of scikit-learn's two photographs (china.jpg and flower.jpg).

    Calibration crops come from the left halves, evaluation crops from the right halves: no pixel is in both.

    Args:
        preprocessing: Applied to every crop.
        calibration_images: Number of calibration crops.
        evaluation_images: Number of evaluation crops.
        seed: Same seed, same crops.

    Returns:
        The two sets, not labelled.

    Raises:
        InputError: A count below 1, or a negative seed.
    """
    check_counts(calibration_images, evaluation_images, seed)
    photographs: list[NDArray[np.uint8]] = load_sample_images().images
    middle = [photograph.shape[1] // 2 for photograph in photographs]
    left = [photograph[:, :column].copy() for photograph, column in zip(photographs, middle, strict=True)]
    right = [photograph[:, column:].copy() for photograph, column in zip(photographs, middle, strict=True)]
    return ImageSets(
        calibration=PhotographCrops(left, calibration_images, preprocessing, seed),
        evaluation=PhotographCrops(right, evaluation_images, preprocessing, seed),
        labelled=False,
        description=(
            f"Random crops of scikit-learn's two sample photographs (seed {seed}, no labels): "
            f"{evaluation_images:,} of the right halves for evaluation, "
            f"{calibration_images:,} of the left halves for calibration."
        ),
    )
