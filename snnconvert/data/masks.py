"""Images with a mask each, a class for every pixel: Pascal VOC's folders, or images/ and masks/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.division import Pool, Wishes, divide
from snnconvert.data.files import EVALUATION_FOLDERS, TRAINING_FOLDER, images_by_stem
from snnconvert.data.pixels import read_image
from snnconvert.data.plain import PlainImages, Prepare, holds_images, open_plain
from snnconvert.data.sets import TaskSets
from snnconvert.data.voc_lists import find_image, read_lists
from snnconvert.errors import InputError

IMAGES, MASKS = "images", "masks"
_VOC_IMAGES, _VOC_MASKS, _VOC_LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
_EXPECTED = (
    "expected images/ and masks/ with equal names (also in val/ and train/, or with val/ and train/ in both), "
    "Pascal VOC's JPEGImages/ and SegmentationClass/, or images alone"
)
_Pair = tuple[Path, Path]
_Pools = tuple[Pool[_Pair], "Pool[_Pair] | None"]


@dataclass(frozen=True)
class MaskValues:
    """What the values of a mask may be: classes 0 to classes − 1, or void."""

    classes: int
    void: int

    def check(self, mask: Tensor, path: Path) -> None:
        """Refuses a value that is neither.

        Raises:
            InputError: Naming the file.
        """
        wrong = mask[(mask != self.void) & ((mask < 0) | (mask >= self.classes))]
        if len(wrong):
            raise InputError(
                f"the mask {path} holds the class {int(wrong[0])}: the network has the classes 0 to "
                f"{self.classes - 1}, and void is {self.void} (--void)"
            )


class MaskedImages(Dataset[tuple[Tensor, Tensor]]):
    """Images and masks, read when asked for: float32 [C, H, W], and int64 of the file's own height and width."""

    def __init__(self, pairs: Sequence[_Pair], prepare: Prepare, values: MaskValues) -> None:
        self._pairs, self._prepare, self._values = tuple(pairs), prepare, values

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self._pairs[index]
        image, mask = read_image(image_path), read_mask(mask_path)
        if tuple(mask.shape) != (image.height, image.width):
            raise InputError(
                f"the mask {mask_path} has {mask.shape[1]} x {mask.shape[0]} pixels and its image {image_path.name} "
                f"{image.width} x {image.height}: give masks of the images' sizes"
            )
        self._values.check(mask, mask_path)
        return self._prepare(image), mask


def read_mask(path: Path) -> Tensor:
    """The class of every pixel of a palette or grey image, int64 [H, W].

    Raises:
        InputError: The file can't be read or is no such image.
    """
    image = read_image(path)
    pixels = np.array(image)
    if pixels.ndim != 2 or image.mode == "F":
        raise InputError(f"the mask {path} is of mode {image.mode}: masks are palette or grey images of class indices")
    return torch.from_numpy(pixels.astype(np.int64))


def open_masks(path: Path, prepare: Prepare, *, num_classes: int, void: int, wishes: Wishes) -> TaskSets:
    """Opens a folder of images and masks.

    Args:
        path: The folder; images alone have no masks.
        prepare: Turns an image into the network's input.
        num_classes: Classes the network tells apart.
        void: Value of pixels that don't count.
        wishes: How many images.

    Raises:
        InputError: The folder or its layout can't be used; the message says why.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: {_EXPECTED}")
    pools = _pools(path)
    if pools is None:
        if holds_images(path):
            return open_plain(path, prepare, wishes)
        raise InputError(f"{path} has no images with masks: {_EXPECTED}")
    division = divide(*pools, wishes)
    return TaskSets(
        PlainImages([image for image, _ in division.calibration], prepare),
        MaskedImages(division.evaluation, prepare, MaskValues(num_classes, void)),
        labelled=True,
        description=division.description,
    )


def _pools(root: Path) -> _Pools | None:
    if (root / _VOC_IMAGES).is_dir() and (root / _VOC_MASKS).is_dir():
        return _voc_pools(root)
    for name in EVALUATION_FOLDERS:
        for held_out, training in (
            (_in_part(root, name), _in_part(root, TRAINING_FOLDER)),
            (_by_part(root, name), _by_part(root, TRAINING_FOLDER)),
        ):
            if _exists(held_out):
                return _pool(*held_out), _pool(*training) if _exists(training) else None
    both = root / IMAGES, root / MASKS
    return (_pool(*both), None) if _exists(both) else None


def _in_part(root: Path, part: str) -> tuple[Path, Path]:
    return root / part / IMAGES, root / part / MASKS


def _by_part(root: Path, part: str) -> tuple[Path, Path]:
    return root / IMAGES / part, root / MASKS / part


def _exists(folders: tuple[Path, Path]) -> bool:
    return all(folder.is_dir() for folder in folders)


def _pool(images: Path, masks: Path) -> Pool[_Pair]:
    found, labels = images_by_stem(images), images_by_stem(masks)
    for stem in found:
        if stem not in labels:
            raise InputError(f"the image {found[stem]} has no mask {masks / stem}.png: add it or remove the image")
    for stem in labels:
        if stem not in found:
            raise InputError(f"the mask {labels[stem]} has no image {images / stem}: add it or remove the mask")
    return Pool([(found[stem], labels[stem]) for stem in found], str(images))


def _voc_pools(root: Path) -> _Pools:
    images, masks = images_by_stem(root / _VOC_IMAGES), images_by_stem(root / _VOC_MASKS)
    lists = read_lists(root / _VOC_LISTS)
    if lists is None:
        return _voc_pool(root, images, masks, list(masks), str(root / _VOC_MASKS)), None
    held_out = _voc_pool(root, images, masks, lists.evaluation, str(lists.evaluation_file))
    if lists.training_file is None:
        return held_out, None
    return held_out, _voc_pool(root, images, masks, lists.training, str(lists.training_file))


def _voc_pool(
    root: Path, images: dict[str, Path], masks: dict[str, Path], stems: Sequence[str], where: str
) -> Pool[_Pair]:
    pairs = [
        (find_image(images, root / _VOC_IMAGES, stem, where), find_image(masks, root / _VOC_MASKS, stem, where))
        for stem in stems
    ]
    return Pool(pairs, where)
