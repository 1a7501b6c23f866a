"""Scikit-learn's handwritten digits, with one fixed split into training and held-out images."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from snnconvert.data.arrays import ArrayImages
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import check_counts, choose_indices

DIGITS_CLASSES, DIGITS_TRAINING = 10, 1257
_HELD_OUT = 540
_BRIGHTEST = 16.0


def digits_preprocessing() -> Preprocessing:
    """Gives the preprocessing of the embedded digits network.

    Returns:
        Grey 8 x 8 images, normalized with the mean and standard deviation of the training pixels.
    """
    return Preprocessing(input_size=(1, 8, 8), mean=(0.3054,), std=(0.3765,), interpolation="bilinear", crop_pct=1.0)


def load_digits_arrays() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Loads all 1,797 digits.

    Returns:
        float32 [1797, 8, 8] in 0..1 (16 grey levels and white), and int64 [1797] in 0..9.
    """
    digits = load_digits()
    return (digits.images / _BRIGHTEST).astype(np.float32), digits.target.astype(np.int64)


def digits_split(labels: NDArray[np.int64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Splits the digits by class into training and held-out images, the same on every machine.

    Within each class the images are ordered by the SHA-256 digest of their index, and the first ones are held
    out; the share of every class is the same up to rounding.

    Args:
        labels: int64 [1797].

    Returns:
        1,257 training indices and 540 held-out ones, ascending.
    """
    held_out: list[int] = []
    seen = 0
    for label in range(DIGITS_CLASSES):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=_digest)
        quota = (seen + len(members)) * _HELD_OUT // len(labels) - seen * _HELD_OUT // len(labels)
        held_out.extend(members[:quota])
        seen += len(members)
    training = sorted(set(range(len(labels))) - set(held_out))
    return tuple(training), tuple(sorted(held_out))


def digits_images(
    preprocessing: Preprocessing,
    *,
    calibration_images: int = 128,
    evaluation_images: int | None = None,
    seed: int = 0,
) -> ImageSets:
    """Opens the digits: training images calibrate, held-out images evaluate.

    Args:
        preprocessing: Applied to every image; `digits_preprocessing()` for the embedded network.
        calibration_images: Wanted calibration images, at most 1,257.
        evaluation_images: Wanted evaluation images, at most 540; None for all of them.
        seed: Of the random choice.

    Returns:
        The two sets, labelled.

    Raises:
        InputError: A count below 1, or a negative seed.
    """
    check_counts(calibration_images, evaluation_images, seed)
    images, labels = load_digits_arrays()
    training, held_out = digits_split(labels)
    calibration = [training[index] for index in choose_indices(len(training), calibration_images, seed)]
    evaluation = list(held_out)
    if evaluation_images is not None and evaluation_images < len(held_out):
        evaluation = [held_out[index] for index in sorted(choose_indices(len(held_out), evaluation_images, seed))]
    return ImageSets(
        calibration=ArrayImages(images, labels, calibration, preprocessing),
        evaluation=ArrayImages(images, labels, evaluation, preprocessing),
        labelled=True,
        description=(
            f"Scikit-learn's handwritten digits: {len(evaluation):,} of the {len(held_out)} held-out images "
            f"for evaluation, {len(calibration):,} of the {len(training):,} training images for calibration "
            f"(seed {seed})."
        ),
    )


def _digest(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()
