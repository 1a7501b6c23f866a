"""Images in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.classes import class_indices
from snnconvert.data.division import Pool, Wishes, divide
from snnconvert.data.files import EVALUATION_FOLDERS, TRAINING_FOLDER, image_files
from snnconvert.data.pixels import read_image
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import ImageSets
from snnconvert.errors import InputError

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
    held_out = _pool(layout.evaluation, labels)
    training = None if layout.training is None else _pool(layout.training, labels)
    division = divide(held_out, training, Wishes(calibration_images, evaluation_images, seed))
    return ImageSets(
        calibration=FolderImages(division.calibration, preprocessing),
        evaluation=FolderImages(division.evaluation, preprocessing),
        labelled=True,
        description=division.description,
    )


def _find_layout(root: Path) -> _Layout:
    training = root / TRAINING_FOLDER
    has_training = training.is_dir() and bool(_visible_folders(training))
    for name in EVALUATION_FOLDERS:
        if (root / name).is_dir() and _visible_folders(root / name):
            return _Layout(root / name, training if has_training else None)
    if has_training:
        raise InputError(
            f"{root} has train/ but no val/, validation/ or test/ with class folders: add one, "
            f"or pass {training} to split the training images"
        )
    folders = _visible_folders(root)
    if all(folder.name in (*EVALUATION_FOLDERS, TRAINING_FOLDER) for folder in folders):
        raise InputError(f"{root} has no class folders: {_EXPECTED}")
    return _Layout(root, None)


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pool(folder: Path, labels: dict[str, int]) -> Pool[tuple[str, int]]:
    files = [(str(file), labels[part.name]) for part in _visible_folders(folder) for file in image_files(part)]
    if not files:
        raise InputError(f"{folder} holds no images in its class folders: {_EXPECTED}")
    return Pool(files, str(folder))
