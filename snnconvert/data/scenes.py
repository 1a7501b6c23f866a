"""Procedural scenes for detection and segmentation: shapes that hide each other, on textured backgrounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from snnconvert.data.scene_shapes import SHAPES, Shape
from snnconvert.data.scene_textures import background, exposed, surface
from snnconvert.errors import InputError

SCENE_SIZE = 128
SCENE_CLASSES = ("background", *SHAPES)
TRAINING_SEED, CALIBRATION_SEED, HELD_OUT_SEED = 0, 1, 2
_SMALLEST_SIZE = 32
_FEWEST, _MOST = 2, 7
_SMALLEST, _LARGEST = 0.0625, 0.2
_LEAST_VISIBLE = 0.4
_LEAST_PIXELS = 4


@dataclass(frozen=True)
class Scene:
    """An image and what is in it.

    Attributes:
        image: float32 [3, H, W] in 0..1, red first.
        boxes: float32 [K, 4], (x1, y1, x2, y2) in pixels, tight around the visible part of each shape; a box of the
            image's first pixel alone is (0, 0, 1, 1).
        labels: int64 [K], indices into ``SCENE_CLASSES``, 1 and up.
        mask: int64 [H, W], the class of each pixel; 0 is the background.
        instances: int64 [H, W], the shape each pixel belongs to; k + 1 is that of ``boxes[k]``, 0 the background.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    mask: Tensor
    instances: Tensor

    @property
    def target(self) -> dict[str, Tensor]:
        """Boxes and labels as the detectors of torchvision and torchmetrics take them."""
        return {"boxes": self.boxes, "labels": self.labels}


class Scenes(Dataset[Scene]):
    """Scenes of two to seven circles, squares, triangles and stars, each decided by seed and index alone.

    Shapes of random size, place, angle, colour and shading are laid over each other on a gradient with a texture; of
    each at least 40 % are visible, others are left out of the image too. The light changes from scene to scene, and
    there is noise. Radii have a density ∝ 1/r between 6 and 20 % of the side.

    Args:
        count: Number of scenes.
        size: Pixels of a side. Shapes grow with it; what is at the limit of being left out may differ.
        seed: Of everything random. The shipped networks were trained on ``TRAINING_SEED``; calibrate on
            ``CALIBRATION_SEED`` and evaluate on ``HELD_OUT_SEED``, or on any others.

    Raises:
        InputError: A count below 1, a size below 32, or a negative seed.
    """

    def __init__(self, count: int, size: int = SCENE_SIZE, seed: int = HELD_OUT_SEED) -> None:
        if count < 1:
            raise InputError(f"scenes: count must be at least 1, got {count}")
        if size < _SMALLEST_SIZE:
            raise InputError(f"scenes: size must be at least {_SMALLEST_SIZE} pixels, got {size}")
        if seed < 0:
            raise InputError(f"scenes: seed must not be negative, got {seed}")
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        """The scene of one number.

        Args:
            index: 0 .. count − 1; negative ones count from the end.

        Raises:
            IndexError: There are fewer scenes.
        """
        if not -self.count <= index < self.count:
            raise IndexError(f"there are {self.count} scenes, no number {index}")
        return _render(np.random.default_rng([self.seed, index % self.count]), self.size)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.count))

    def images(self) -> Tensor:
        """The images of all scenes, float32 [count, 3, size, size]: what a conversion calibrates on."""
        return torch.stack([scene.image for scene in self])


def _render(rng: np.random.Generator, size: int) -> Scene:
    shapes = _random_shapes(rng, size)
    coverages = [shape.coverage(size) for shape in shapes]
    kept = [index for index, pixels in enumerate(_visible_pixels(coverages)) if _is_seen(shapes[index], pixels)]
    image, colour = background(rng, size)
    instances = np.zeros((size, size), dtype=np.int64)
    for number, index in enumerate(kept, start=1):
        covered = coverages[index]
        image = image + covered * (surface(rng, size, colour) - image)
        instances[covered >= 0.5] = number
    labels = np.array([SCENE_CLASSES.index(shapes[index].kind) for index in kept], dtype=np.int64)
    mask = np.concatenate([np.zeros(1, dtype=np.int64), labels])[instances]
    return Scene(
        image=torch.from_numpy(exposed(rng, image)),
        boxes=torch.from_numpy(_tight_boxes(instances, len(kept))),
        labels=torch.from_numpy(labels),
        mask=torch.from_numpy(mask),
        instances=torch.from_numpy(instances),
    )


def _random_shapes(rng: np.random.Generator, size: int) -> list[Shape]:
    """The shapes of one scene, the farthest first."""
    shapes = []
    for _ in range(int(rng.integers(_FEWEST, _MOST + 1))):
        kind = SHAPES[int(rng.integers(len(SHAPES)))]
        x, y, share, turn = rng.uniform(size=4)
        radius = size * _SMALLEST * math.pow(_LARGEST / _SMALLEST, share)
        shapes.append(Shape(kind, size * x, size * y, radius, 2 * math.pi * turn))
    return shapes


def _visible_pixels(coverages: Sequence[NDArray[np.float64]]) -> list[int]:
    """Pixels of each shape that no nearer one hides."""
    hidden = np.zeros_like(coverages[0], dtype=bool)
    counts = []
    for covered in reversed(coverages):
        counts.append(int(((covered >= 0.5) & ~hidden).sum()))
        hidden |= covered >= 0.5
    return counts[::-1]


def _is_seen(shape: Shape, pixels: int) -> bool:
    return pixels >= max(_LEAST_VISIBLE * shape.area, _LEAST_PIXELS)


def _tight_boxes(instances: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    boxes = np.zeros((count, 4), dtype=np.float32)
    for index in range(count):
        rows, columns = np.nonzero(instances == index + 1)
        boxes[index] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return boxes
