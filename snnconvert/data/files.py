"""Finds image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
EVALUATION_FOLDERS = ("val", "validation", "test")
TRAINING_FOLDER = "train"


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS


def image_files(folder: Path) -> Iterator[Path]:
    """The images in a folder and the folders in it, in the order of their names; hidden ones are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if is_image(name))


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by their paths in it without the extension; of several the first."""
    found: dict[str, Path] = {}
    for path in image_files(folder):
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found
