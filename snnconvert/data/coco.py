"""Labelled boxes in COCO's format: a JSON file of images, annotations and categories."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from snnconvert.data.boxes import BoxedImage, LabelledBox, LabelRange, check_inside, checked_corners
from snnconvert.data.division import Pool
from snnconvert.data.files import EVALUATION_FOLDERS, TRAINING_FOLDER
from snnconvert.errors import InputError

_LARGEST = 2**30
_EVALUATION_WORDS = ("val", "test")
_IMAGE_FOLDERS = ("images", ".")


def annotation_files(root: Path) -> tuple[Path, Path | None] | None:
    """The JSON files of a folder: that to evaluate on, and that to calibrate on if there is one; None if none is.

    They are in DIR/annotations/ or in DIR, or in DIR/val/ and DIR/train/. Where one is named instances_*, only such
    ones count; of several, one whose name has "val" or "test" in it evaluates, one with "train" calibrates.

    Raises:
        InputError: It isn't clear which file it is.
    """
    for folder in (root / "annotations", root):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        files = [file for file in files if file.name.startswith("instances_")] or files
        if len(files) == 1:
            return files[0], None
        if files:
            return _told_apart(files, folder)
    parts = {name: annotation_files(root / name) for name in EVALUATION_FOLDERS if (root / name).is_dir()}
    held_out = next((found[0] for found in parts.values() if found is not None), None)
    if held_out is None:
        return None
    training = annotation_files(root / TRAINING_FOLDER) if (root / TRAINING_FOLDER).is_dir() else None
    return held_out, None if training is None else training[0]


def _told_apart(files: Sequence[Path], folder: Path) -> tuple[Path, Path | None]:
    held_out = [file for word in _EVALUATION_WORDS for file in files if word in file.name]
    training = [file for file in files if "train" in file.name and file not in held_out]
    if not held_out or len(training) > 1 or (len(held_out) > 1 and "val" not in held_out[0].name):
        names = ", ".join(file.name for file in files[:5])
        raise InputError(f"{folder} holds {len(files)} annotation files ({names}): choose one with --annotations FILE")
    if sum("val" in file.name for file in held_out) > 1:
        raise InputError(f"{folder} holds several files for evaluation: choose one with --annotations FILE")
    return held_out[0], training[0] if training else None


def read_coco(file: Path, root: Path, labels: LabelRange) -> Pool[BoxedImage]:
    """Reads an annotation file; a category's id is the label.

    Boxes of zero width or height are left out. Images without annotations count, too.

    Args:
        file: The JSON file.
        root: Where the images are: in it, in images/, in a folder named as the file is (val2017/ of
            instances_val2017.json), or beside the file.
        labels: What the network gives.

    Raises:
        InputError: The file can't be read, is of another form, or doesn't fit the network or the images.
    """
    data = _load(file)
    images, annotations = (_list_of_dicts(data, key, file) for key in ("images", "annotations"))
    sizes = {_integer(image, "id", f"an image of {file}"): _size(image, file) for image in images}
    if len(sizes) != len(images):
        raise InputError(f"{file} has several images of the same id: give each its own")
    boxes: defaultdict[int, list[LabelledBox]] = defaultdict(list)
    for annotation in annotations:
        image, box = _box(annotation, file, labels, sizes)
        if box is not None:
            boxes[image].append(box)
    names = [_name(image, file) for image in images]
    folder = _image_folder(file, root, names)
    items = [
        BoxedImage(folder / name, tuple(boxes[image["id"]]), sizes[image["id"]])
        for image, name in zip(images, names, strict=True)
    ]
    for item in items:
        if not item.path.is_file():
            raise InputError(f"{file} names the image {item.path.name!r}, and there is no {item.path}: add it")
    return Pool(items, str(file))


def _load(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file} is larger than {_LARGEST >> 30} GiB: annotations of boxes are smaller")
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror or type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{file} is no JSON file: save COCO's annotations again") from None
    if not isinstance(data, dict):
        raise InputError(f"{file} holds a {type(data).__name__}, not COCO's object of images and annotations")
    return data


def _list_of_dicts(data: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{file} has no list of objects {key!r}: it isn't in COCO's format")
    return found


def _integer(item: Mapping[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where} has no integer {key!r}: it isn't in COCO's format")
    return value


def _numbers(value: Any, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count:
        return None
    if any(isinstance(item, bool) or not isinstance(item, (int, float)) for item in value):
        return None
    try:
        return [float(item) for item in value]
    except OverflowError:
        return [math.inf] * count


def _size(image: Mapping[str, Any], file: Path) -> tuple[float, float] | None:
    if "width" not in image and "height" not in image:
        return None
    size = _numbers([image.get("width"), image.get("height")], 2)
    if size is None or min(size) <= 0:
        raise InputError(f"the image {image.get('id')} of {file} has a width or height that is no positive number")
    return size[0], size[1]


def _name(image: Mapping[str, Any], file: Path) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError(f"the image {image['id']} of {file} has no file_name: it isn't in COCO's format")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{file} names the image {name!r} outside of its folder: give a path inside it")
    return name.replace("\\", "/")


def _box(
    annotation: Mapping[str, Any], file: Path, labels: LabelRange, sizes: Mapping[int, tuple[float, float] | None]
) -> tuple[int, LabelledBox | None]:
    where = f"the annotation {annotation.get('id', '')} of {file}"
    image = _integer(annotation, "image_id", where)
    if image not in sizes:
        raise InputError(f"{where} is of the image {image}, which the file doesn't have")
    numbers = _numbers(annotation.get("bbox"), 4)
    if numbers is None:
        raise InputError(f"{where} has no bbox of 4 numbers (x, y, width, height)")
    x, y, width, height = numbers
    corners = checked_corners((x, y, x + width, y + height), where)
    size = sizes[image]
    if corners is not None and size is not None:
        check_inside(corners, size, where)
    label = labels.check(_integer(annotation, "category_id", where), where)
    crowd = annotation.get("iscrowd", 0) not in (0, False, None)
    return image, None if corners is None else LabelledBox(corners, label, crowd)


def _image_folder(file: Path, root: Path, names: Sequence[str]) -> Path:
    if not names:
        raise InputError(f"{file} has no images")
    own = file.stem.removeprefix("instances_")
    folders = [root / own, root / "images" / own, *(root / name for name in _IMAGE_FOLDERS), file.parent]
    for folder in folders:
        if (folder / names[0]).is_file():
            return folder
    raise InputError(
        f"{file} names the image {names[0]!r}, which is neither beside it nor in {own}/, images/{own}/, images/ or "
        f"the folder itself of {root}: add it, or give --data DIR"
    )
