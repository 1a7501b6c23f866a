"""Images to train on, and others to evaluate on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, Subset

from snnconvert.data.files import TRAINING_FOLDER
from snnconvert.data.images import open_images
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import choose_indices

_ALL = 1 << 31
_HELD_OUT = 10  # one image in so many evaluates where nothing else is given


def open_training(
    path: Path,
    preprocessing: Preprocessing,
    *,
    num_classes: int,
    evaluation: Path | None = None,
    training_images: int | None = None,
    evaluation_images: int | None = None,
    seed: int = 0,
) -> ImageSets:
    """Opens images to train and to evaluate on; no image is in both sets.

    Args:
        path: as for :func:`~snnconvert.data.images.open_images`. `DIR/train/` trains and `DIR/val/` evaluates; of
            other folders and of an .npz file a tenth is held out, or nothing if there are other images to evaluate on.
        preprocessing: Applied to every image.
        num_classes: Classes the network tells apart.
        evaluation: Other images to evaluate on.
        training_images: Wanted training images; None for all.
        evaluation_images: Wanted evaluation images; None for all.
        seed: Of the random choices.

    Returns:
        The two sets; ``calibration`` is the one to train on.

    Raises:
        InputError: as `open_images`.
    """
    sets = _opened(path, preprocessing, num_classes, seed, holds_out=evaluation is None)
    training: Dataset[Any] = sets.calibration
    held_out: Dataset[Any] = sets.evaluation
    labelled = sets.labelled
    if evaluation is not None:
        others = open_images(evaluation, preprocessing, num_classes=num_classes, calibration_images=1, seed=seed)
        if not (path / TRAINING_FOLDER).is_dir():
            training = ConcatDataset([sets.calibration, sets.evaluation])
        held_out = ConcatDataset([others.calibration, others.evaluation])
        labelled = others.labelled
    training, held_out = _some(training, training_images, seed), _some(held_out, evaluation_images, seed)
    counts = f"{len(training):,} images to train on, {len(held_out):,} others to evaluate on"  # type: ignore[arg-type]
    where = f"{path}" if evaluation is None else f"{path} and {evaluation}"
    return ImageSets(training, held_out, labelled, f"{counts}, from {where} (seed {seed}).")


def _opened(path: Path, preprocessing: Preprocessing, num_classes: int, seed: int, *, holds_out: bool) -> ImageSets:
    """All images of a path, in two sets."""
    sets = open_images(path, preprocessing, num_classes=num_classes, calibration_images=_ALL, seed=seed)
    if (path / TRAINING_FOLDER).is_dir() or not holds_out:
        return sets
    total = len(sets.calibration) + len(sets.evaluation)  # type: ignore[arg-type]
    held_out = max(total // _HELD_OUT, 1)
    return open_images(
        path,
        preprocessing,
        num_classes=num_classes,
        calibration_images=total - held_out,
        evaluation_images=held_out,
        seed=seed,
    )


def _some(dataset: Dataset[Any], wanted: int | None, seed: int) -> Dataset[Any]:
    total = len(dataset)  # type: ignore[arg-type]
    if wanted is None or wanted >= total:
        return dataset
    return Subset(dataset, choose_indices(total, wanted, seed))
