"""Opens a user's images, whatever they come in."""

from __future__ import annotations

from pathlib import Path

from snnconvert.data.arrays import open_archive
from snnconvert.data.digits import digits_images
from snnconvert.data.folders import open_folder
from snnconvert.data.photographs import sample_photographs
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import check_counts
from snnconvert.errors import InputError

__all__ = ["ImageSets", "digits_images", "open_images", "sample_photographs"]


def open_images(
    path: Path,
    preprocessing: Preprocessing,
    *,
    num_classes: int,
    calibration_images: int = 128,
    evaluation_images: int | None = None,
    seed: int = 0,
) -> ImageSets:
    """Opens images to calibrate and to evaluate on; no image is in both sets.

    Args:
        path: A folder `DIR/val/<class>/` (or `validation`, `test`; `DIR/train/<class>/` then calibrates), a
            folder `DIR/<class>/`, or an .npz file of images and labels.
        preprocessing: Applied to every image.
        num_classes: Classes the network tells apart.
        calibration_images: Wanted calibration images; fewer if there are too few.
        evaluation_images: Wanted evaluation images; None for all there are.
        seed: Of the random choices; same seed, same sets.

    Returns:
        The two sets, read lazily. Items of an image folder raise InputError for a file that can't be read.

    Raises:
        InputError: The path, its layout, its labels or its values can't be used; the message says why.
    """
    check_counts(calibration_images, evaluation_images, seed)
    if path.is_dir():
        opener = open_folder
    elif not path.exists():
        raise InputError(f"there is no {path}: give a folder of class folders, or an .npz file")
    elif path.suffix.lower() == ".npz":
        opener = open_archive
    else:
        raise InputError(f"{path} is neither a folder of class folders nor an .npz file: give one of these")
    return opener(
        path,
        preprocessing,
        num_classes=num_classes,
        calibration_images=calibration_images,
        evaluation_images=evaluation_images,
        seed=seed,
    )
