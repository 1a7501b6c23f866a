"""Labelled boxes in Pascal VOC's format: an XML file for each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from snnconvert.data.boxes import BoxedImage, LabelledBox, checked_corners
from snnconvert.data.division import Pool
from snnconvert.data.files import images_by_stem
from snnconvert.data.voc_lists import find_image, read_lists
from snnconvert.errors import InputError

_LARGEST = 2**20
_IMAGES, _ANNOTATIONS, _LISTS = "JPEGImages", "Annotations", "ImageSets/Main"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(root: Path) -> bool:
    """Whether a folder has Pascal VOC's JPEGImages/ and Annotations/."""
    return (root / _IMAGES).is_dir() and (root / _ANNOTATIONS).is_dir()


def read_voc(root: Path, labels: Mapping[str, int]) -> tuple[Pool[BoxedImage], Pool[BoxedImage] | None]:
    """Reads all annotations; the images of ImageSets/Main's val.txt evaluate and those of train.txt calibrate.

    Boxes are moved by one pixel: VOC counts from 1, and the last pixel is inside. "Difficult" ones are ignored.

    Args:
        root: The folder.
        labels: The network's label of each name.

    Returns:
        The images to evaluate on, or to split if there are none to calibrate on.

    Raises:
        InputError: A file is missing, can't be read, or is of another form.
    """
    images = images_by_stem(root / _IMAGES)
    folder = root / _ANNOTATIONS
    lists = read_lists(root / _LISTS)
    if lists is None:
        stems = [path.stem for path in sorted(folder.glob("*.xml")) if not path.name.startswith(".")]
        return _pool(root, images, tuple(stems), str(folder), labels), None
    held_out = _pool(root, images, lists.evaluation, str(lists.evaluation_file), labels)
    if lists.training_file is None:
        return held_out, None
    return held_out, _pool(root, images, lists.training, str(lists.training_file), labels)


def read_annotation(path: Path, image: Path, labels: Mapping[str, int]) -> BoxedImage:
    """Reads the boxes of one image.

    Raises:
        InputError: The file can't be read, is of another form, declares a document type, or names a class that
            the network doesn't have.
    """
    root = _parsed(path)
    if root.tag != "annotation":
        raise InputError(f"{path} holds <{root.tag[:40]}>, not Pascal VOC's <annotation>")
    size = root.find("size")
    width, height = (_number(size, key, path) for key in ("width", "height")) if size is not None else (0.0, 0.0)
    boxes = [box for item in root.findall("object") if (box := _box(item, path, labels)) is not None]
    return BoxedImage(image, tuple(boxes), (width, height) if width > 0 and height > 0 else None)


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuses entities where they would be declared, before any is expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        del name, pubid, system
        raise _DoctypeError


class _DoctypeError(Exception):
    """A document type is declared."""


def _parsed(path: Path) -> ElementTree.Element[Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than {_LARGEST >> 20} MiB: an annotation of boxes is smaller")
        parser = ElementTree.XMLParser(target=_WithoutDoctype())
        parser.feed(path.read_bytes())
        root: ElementTree.Element[Any] = parser.close()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or type(error).__name__}") from None
    except _DoctypeError:
        raise InputError(f"{path} declares a document type (DOCTYPE), which isn't read: remove it") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no XML file: save the annotation again") from None
    return root


def _pool(
    root: Path, images: Mapping[str, Path], stems: tuple[str, ...], where: str, labels: Mapping[str, int]
) -> Pool[BoxedImage]:
    items = []
    for stem in stems:
        image = find_image(images, root / _IMAGES, stem, where)
        items.append(read_annotation(root / _ANNOTATIONS / f"{stem}.xml", image, labels))
    return Pool(items, where)


def _box(item: ElementTree.Element[Any], path: Path, labels: Mapping[str, int]) -> LabelledBox | None:
    name = (item.findtext("name") or "").strip()
    if name not in labels:
        known = ", ".join(list(labels)[:4])
        raise InputError(
            f"{path} has an object {name[:40]!r}, which the network doesn't know: it has {known}, ... "
            "(a line a class in DIR/classes.txt gives them other names)"
        )
    found = item.find("bndbox")
    if found is None:
        raise InputError(f"{path} has an object {name!r} without <bndbox>")
    x1, y1, x2, y2 = (_number(found, key, path) for key in _CORNERS)
    corners = checked_corners((x1 - 1, y1 - 1, x2, y2), f"an object {name!r} of {path}")
    difficult = (item.findtext("difficult") or "0").strip() not in ("0", "")
    return None if corners is None else LabelledBox(corners, labels[name], difficult)


def _number(parent: ElementTree.Element[Any], key: str, path: Path) -> float:
    text = parent.findtext(key) or ""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path} has no number <{key}> in <{parent.tag[:40]}>, but {text[:40]!r}") from None
