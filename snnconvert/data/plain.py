"""Images without anything else, for tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.division import Pool, Wishes, divide
from snnconvert.data.files import image_files, is_image
from snnconvert.data.pixels import read_image
from snnconvert.data.sets import ImageSets, TaskSets

Prepare = Callable[[Image.Image], Tensor]


class PlainImages(Dataset[Tensor]):
    """Image files, read when asked for: float32 [C, H, W]; one that can't be read raises InputError."""

    def __init__(self, files: Sequence[Path], prepare: Prepare) -> None:
        self._files, self._prepare = tuple(files), prepare

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        return self._prepare(read_image(self._files[index]))


class _WithoutLabels(Dataset[Tensor]):
    def __init__(self, images: Dataset[tuple[Tensor, int]]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tensor:
        return self._images[index][0]


def holds_images(folder: Path) -> bool:
    """Whether a folder itself holds images."""
    return any(is_image(entry.name) and entry.is_file() for entry in folder.iterdir())


def open_plain(folder: Path, prepare: Prepare, wishes: Wishes) -> TaskSets:
    """Opens a folder of images that nobody has labelled.

    Raises:
        InputError: There are fewer than 2 images.
    """
    division = divide(Pool(list(image_files(folder)), str(folder)), None, wishes)
    return TaskSets(
        PlainImages(division.calibration, prepare),
        PlainImages(division.evaluation, prepare),
        labelled=False,
        description=division.description,
    )


def without_labels(images: ImageSets) -> TaskSets:
    """The images of a set alone, for a task that has no use for class labels."""
    return TaskSets(_WithoutLabels(images.calibration), _WithoutLabels(images.evaluation), False, images.description)
