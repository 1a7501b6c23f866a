"""Images in class folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.classes import class_indices
from snnconvert.data.pixels import read_image
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.data.splits import choose_indices, describe_split, split_indices
from snnconvert.errors import InputError

_EVALUATION_FOLDERS = ("val", "validation", "test")
_TRAINING_FOLDER = "train"
_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
_EXPECTED = "expected DIR/<class>/<image> or DIR/val/<class>/<image> (and DIR/train/<class>/<image>)"


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Image files, read when asked for.

    Items are (float32 tensor [C, H, W], class index); a file that can't be read raises InputError.
    """

    def __init__(self, files: Sequence[tuple[str, int]], preprocessing: Preprocessing) -> None:
        self._files = tuple(files)
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self._files[index]
        return self._preprocessing(read_image(Path(path))), label


@dataclass(frozen=True)
class _Layout:
    evaluation: Path
    training: Path | None


def open_folder(
    path: Path,
    preprocessing: Preprocessing,
    *,
    num_classes: int,
    calibration_images: int,
    evaluation_images: int | None,
    seed: int,
) -> ImageSets:
    """Opens a folder of class folders.

    Args:
        path: Holds `val/<class>/` (or `validation`, `test`), optionally `train/<class>/`; or `<class>/`.
        preprocessing: Applied to every image.
        num_classes: Classes the network tells apart.
        calibration_images: Wanted calibration images: from `train` if there is one, otherwise split off.
        evaluation_images: Wanted evaluation images; None for all.
        seed: Of the random choices.

    Returns:
        The two sets, labelled.

    Raises:
        InputError: No class folders, no images, or class folders that don't fit the network.
    """
    layout = _find_layout(path)
    parts = [layout.evaluation] if layout.training is None else [layout.evaluation, layout.training]
    names = [folder.name for part in parts for folder in _visible_folders(part)]
    labels = class_indices(names, num_classes, layout.evaluation)
    held_out = _list_images(layout.evaluation, labels)
    if layout.training is None:
        return _split_one(layout.evaluation, held_out, preprocessing, calibration_images, evaluation_images, seed)
    training = _list_images(layout.training, labels)
    calibration = choose_indices(len(training), calibration_images, seed)
    evaluation: Sequence[int] = range(len(held_out))
    if evaluation_images is not None and evaluation_images < len(held_out):
        evaluation = sorted(choose_indices(len(held_out), evaluation_images, seed))
    return ImageSets(
        calibration=_subset(training, calibration, preprocessing),
        evaluation=_subset(held_out, evaluation, preprocessing),
        labelled=True,
        description=(
            f"{len(evaluation):,} of the {len(held_out):,} images in {layout.evaluation} for evaluation, "
            f"{len(calibration):,} of the {len(training):,} images in {layout.training} for calibration "
            f"(seed {seed})."
        ),
    )


def _split_one(
    folder: Path,
    files: list[tuple[str, int]],
    preprocessing: Preprocessing,
    calibration_images: int,
    evaluation_images: int | None,
    seed: int,
) -> ImageSets:
    if len(files) < 2:
        raise InputError(f"{folder} holds 1 image: calibration and evaluation need at least 1 each, add more")
    split = split_indices(len(files), calibration_images, evaluation_images, seed)
    return ImageSets(
        calibration=_subset(files, split.calibration, preprocessing),
        evaluation=_subset(files, split.evaluation, preprocessing),
        labelled=True,
        description=describe_split(f"the {len(files):,} images in {folder}", split, seed),
    )


def _find_layout(root: Path) -> _Layout:
    training = root / _TRAINING_FOLDER
    has_training = training.is_dir() and bool(_visible_folders(training))
    for name in _EVALUATION_FOLDERS:
        if (root / name).is_dir() and _visible_folders(root / name):
            return _Layout(root / name, training if has_training else None)
    if has_training:
        raise InputError(
            f"{root} has train/ but no val/, validation/ or test/ with class folders: add one, "
            f"or pass {training} to split the training images"
        )
    folders = _visible_folders(root)
    if all(folder.name in (*_EVALUATION_FOLDERS, _TRAINING_FOLDER) for folder in folders):
        raise InputError(f"{root} has no class folders: {_EXPECTED}")
    return _Layout(root, None)


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _list_images(folder: Path, labels: dict[str, int]) -> list[tuple[str, int]]:
    files = [(file, labels[part.name]) for part in _visible_folders(folder) for file in _image_files(part)]
    if not files:
        raise InputError(f"{folder} holds no images in its class folders: {_EXPECTED}")
    return files


def _image_files(folder: Path) -> list[str]:
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(str(Path(parent, name)) for name in sorted(names) if _is_image(name))
    return found


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in _EXTENSIONS


def _subset(files: list[tuple[str, int]], chosen: Sequence[int], preprocessing: Preprocessing) -> FolderImages:
    return FolderImages([files[index] for index in chosen], preprocessing)
