"""Images in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.archives import read_archive
from snnconvert.data.pixels import array_to_image, array_to_tensor, match_channels
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import describe_split, split_indices
from snnconvert.errors import InputError

_UNKNOWN_LABEL = -1


class ArrayImages(Dataset[tuple[Tensor, int]]):
    """Some of the images of an array.

    Images of the network's own size are normalized only; others are resized and cropped like photographs,
    at 8 bits. Items are (float32 tensor [C, H, W], label or -1).

    Args:
        images: [N, H, W] or [N, H, W, C] with C in 1, 3; uint8, or floating point in 0..1.
        labels: int64 [N], or None.
        indices: Which images, in which order.
        preprocessing: Applied to every image.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[np.int64] | None,
        indices: Sequence[int],
        preprocessing: Preprocessing,
    ) -> None:
        self._images = images
        self._labels = labels
        self._indices = tuple(indices)
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        position = self._indices[index]
        label = _UNKNOWN_LABEL if self._labels is None else int(self._labels[position])
        return self._tensor(self._images[position]), label

    def _tensor(self, pixels: NDArray[Any]) -> Tensor:
        channels, height, width = self._preprocessing.input_size
        if pixels.shape[:2] != (height, width):
            return self._preprocessing(array_to_image(pixels))
        if pixels.dtype == np.uint8:
            return self._preprocessing.without_resize(array_to_image(pixels))
        return self._preprocessing.normalize(match_channels(array_to_tensor(pixels), channels))


def open_archive(
    path: Path,
    preprocessing: Preprocessing,
    *,
    num_classes: int,
    calibration_images: int,
    evaluation_images: int | None,
    seed: int,
) -> ImageSets:
    """Opens an .npz file of images.

    Args:
        path: The file; `snnconvert.data.archives.read_archive` says what it holds.
        preprocessing: Applied to every image.
        num_classes: Classes the network tells apart.
        calibration_images: Wanted calibration images.
        evaluation_images: Wanted evaluation images; None for all that calibration leaves.
        seed: Of the split.

    Returns:
        The two sets; labelled if the file has labels.

    Raises:
        InputError: The file can't be used; the message says why.
    """
    arrays = read_archive(path, num_classes=num_classes)
    total = len(arrays.images)
    if total < 2:
        raise InputError(f"{path} holds 1 image: calibration and evaluation need at least 1 each, add more")
    split = split_indices(total, calibration_images, evaluation_images, seed)
    labelled = arrays.labels is not None
    what = f"the {total:,} {'' if labelled else 'unlabelled '}images in {path}"
    return ImageSets(
        calibration=ArrayImages(arrays.images, arrays.labels, split.calibration, preprocessing),
        evaluation=ArrayImages(arrays.images, arrays.labels, split.evaluation, preprocessing),
        labelled=labelled,
        description=describe_split(what, split, seed),
    )
