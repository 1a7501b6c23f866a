"""Reads the image and label arrays of an .npz file, and checks them."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnconvert.errors import InputError

_CHUNK = 256
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class ImageArrays:
    """Images of one size, with their labels.

    Attributes:
        images: [N, H, W] or [N, H, W, C] with C in 1, 3; uint8, or floating point in 0..1.
        labels: int64 [N] in 0..num_classes-1, or None.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64] | None


def read_archive(path: Path, *, num_classes: int) -> ImageArrays:
    """Reads an .npz file with one array of images and at most one of labels.

    The 3-D or 4-D array is the images: [N, H, W], [N, H, W, C], or [N, C, H, W] with C in 1, 3; uint8, or
    floating point in 0..1. The 1-D (or [N, 1]) integer array is the labels. Other arrays are ignored.

    Args:
        path: The file; pickled objects in it are refused, never loaded.
        num_classes: Labels must lie in 0..num_classes-1.

    Returns:
        The arrays, channels last.

    Raises:
        InputError: The file is damaged, an array is missing, ambiguous or of a wrong type or shape, lengths
            differ, or values are out of range.
    """
    arrays = _load(path)
    name, images = _pick_images(path, arrays)
    images = _channels_last(path, name, images)
    _check_pixels(path, name, images)
    return ImageArrays(images, _pick_labels(path, arrays, len(images), num_classes))


def _load(path: Path) -> dict[str, NDArray[Any]]:
    key = ""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is a single array, not an .npz archive: save it with numpy.savez")
        arrays: dict[str, NDArray[Any]] = {}
        with archive:
            for key in archive.files:
                arrays[key] = archive[key]
        return arrays
    except InputError:
        raise
    except ValueError as error:
        if "allow_pickle" in str(error) and key:
            raise InputError(
                f"{path}: the array '{key}' holds pickled Python objects, which are not loaded: "
                "save numbers of one type and shape"
            ) from error
        raise InputError(f"{path} is damaged or no .npz archive: save it again with numpy.savez") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path} is damaged or no .npz archive: save it again with numpy.savez") from error


def _pick_images(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[str, NDArray[Any]]:
    names = [name for name, array in arrays.items() if array.ndim in (3, 4) and array.dtype.kind in "uifb"]
    if len(names) != 1:
        found = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "no arrays"
        problem = "no array of images" if not names else "more than one array that could be the images"
        raise InputError(f"{path} has {problem} (it holds {found}): keep exactly one 3-D or 4-D array")
    images = arrays[names[0]]
    if images.size == 0:
        raise InputError(f"{path}: the array '{names[0]}' of shape {list(images.shape)} is empty: save some images")
    return names[0], images


def _channels_last(path: Path, name: str, images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        return images
    last, first = images.shape[3] in _CHANNELS, images.shape[1] in _CHANNELS
    if last and first:
        raise InputError(
            f"{path}: it can't be told where the channels of '{name}' {list(images.shape)} are: "
            "save grey images as N,H,W, or images of more than 3 x 3 pixels"
        )
    if not last and not first:
        raise InputError(
            f"{path}: '{name}' {list(images.shape)} has neither 1 nor 3 channels: save it as N,H,W or N,H,W,C"
        )
    return images if last else images.transpose(0, 2, 3, 1)


def _check_pixels(path: Path, name: str, images: NDArray[Any]) -> None:
    if images.dtype == np.uint8:
        return
    if images.dtype.kind != "f":
        raise InputError(f"{path}: '{name}' is {images.dtype}: save images as uint8, or as floats in 0..1")
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        if not np.isfinite(chunk).all():
            index = start + int(np.argmin(np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)))
            raise InputError(f"{path}: image {index} of '{name}' holds NaN or infinity: replace or remove it")
        low, high = float(chunk.min()), float(chunk.max())
        if low < 0.0 or high > 1.0:
            raise InputError(
                f"{path}: '{name}' holds values from {low:g} to {high:g}: floats must lie in 0..1, "
                "undo any normalization and divide 0..255 by 255"
            )


def _pick_labels(path: Path, arrays: dict[str, NDArray[Any]], count: int, num_classes: int) -> NDArray[np.int64] | None:
    columns = {name: array.reshape(-1) for name, array in arrays.items() if _is_column(array)}
    names = [name for name, array in columns.items() if array.dtype.kind in "ui"]
    if not names:
        numbers = [name for name, array in columns.items() if array.dtype.kind in "fb" and len(array) == count]
        if numbers:
            raise InputError(f"{path}: '{numbers[0]}' is {columns[numbers[0]].dtype}: save labels as integers")
        return None
    if len(names) > 1:
        raise InputError(f"{path} has more than one array that could be the labels ({', '.join(names)}): keep one")
    labels = columns[names[0]]
    if len(labels) != count:
        raise InputError(f"{path}: {len(labels)} labels in '{names[0]}' for {count} images: save one for each")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise InputError(
            f"{path}: label {labels[wrong[0]]} of image {wrong[0]} in '{names[0]}' is out of range: "
            f"the network has the classes 0 to {num_classes - 1}"
        )
    return labels.astype(np.int64)


def _is_column(array: NDArray[Any]) -> bool:
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
