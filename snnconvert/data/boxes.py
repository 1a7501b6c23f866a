"""Images with labelled boxes, whatever their annotations come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.pixels import image_to_tensor, read_image, to_channels
from snnconvert.errors import InputError

_OUTSIDE = 2.0  # pixels


@dataclass(frozen=True)
class LabelRange:
    """The labels a detector gives: first to classes − 1."""

    first: int
    classes: int

    def check(self, label: int, where: str) -> int:
        """The label.

        Raises:
            InputError: It is out of range.
        """
        if not self.first <= label < self.classes:
            raise InputError(
                f"{where} is of class {label}: the network has the classes {self.first} to {self.classes - 1}"
            )
        return label


@dataclass(frozen=True)
class LabelledBox:
    """A box.

    Attributes:
        corners: x1, y1, x2, y2 in pixels.
        label: Its class.
        ignored: Whether finding it is neither right nor wrong: COCO's crowds, Pascal VOC's difficult ones.
    """

    corners: tuple[float, float, float, float]
    label: int
    ignored: bool = False


@dataclass(frozen=True)
class BoxedImage:
    """An image and its boxes; the size in pixels (width, height) if the annotations know it."""

    path: Path
    boxes: tuple[LabelledBox, ...]
    size: tuple[float, float] | None = None


class BoxedImages(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images and boxes as torchvision's detectors take them; images are read when asked for.

    Items are (float32 [3, H, W] in 0..1, a dict of boxes float32 [K, 4], labels int64 [K] and iscrowd int64 [K]).
    """

    def __init__(self, items: Sequence[BoxedImage]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        item = self._items[index]
        image = read_image(item.path)
        if item.size is not None and item.size != (image.width, image.height):
            width, height = item.size
            raise InputError(
                f"the image {item.path} has {image.width} x {image.height} pixels, its annotations say {width:g} x "
                f"{height:g}: they belong to another file"
            )
        for box in item.boxes:
            check_inside(box.corners, (image.width, image.height), f"a box of {item.path}")
        target = {
            "boxes": torch.tensor([box.corners for box in item.boxes], dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor([box.label for box in item.boxes], dtype=torch.int64),
            "iscrowd": torch.tensor([int(box.ignored) for box in item.boxes], dtype=torch.int64),
        }
        return image_to_tensor(to_channels(image, 3)), target


def checked_corners(corners: Sequence[float], where: str) -> tuple[float, float, float, float] | None:
    """The same corners; None of a box that has no area.

    Raises:
        InputError: They aren't finite, or in the wrong order.
    """
    x1, y1, x2, y2 = corners
    if not all(math.isfinite(value) for value in corners):
        raise InputError(f"{where} has corners that are no finite numbers: correct or remove it")
    if x2 < x1 or y2 < y1:
        raise InputError(f"{where} ends before it begins ({x1:g}, {y1:g}, {x2:g}, {y2:g}): correct or remove it")
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def check_inside(corners: Sequence[float], size: tuple[float, float], where: str) -> None:
    """Refuses a box that reaches beyond its image by more than 2 pixels.

    Raises:
        InputError: It does.
    """
    x1, y1, x2, y2 = corners
    width, height = size
    if min(x1, y1) < -_OUTSIDE or x2 > width + _OUTSIDE or y2 > height + _OUTSIDE:
        raise InputError(
            f"{where} ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies outside of its image of {width:g} x {height:g} pixels: "
            "correct or remove it"
        )
