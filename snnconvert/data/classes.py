"""From the names of class folders to class indices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

from snnconvert.errors import InputError

_SYNSET = re.compile(r"n\d{8}")


def class_indices(names: Iterable[str], num_classes: int, root: Path) -> dict[str, int]:
    """Finds the class index each class folder stands for.

    Folder names that are all integers are the indices themselves. Names that are all ImageNet synsets
    (n########) are looked up, if the network has as many classes as an ImageNet variant. Otherwise the
    alphabetical order counts, which is only safe when there is one folder for every class.

    Args:
        names: The folder names.
        num_classes: Classes the network tells apart.
        root: The folder they are in, for messages.

    Returns:
        Class index by folder name, each in 0..num_classes-1.

    Raises:
        InputError: An index out of range, an unknown synset, or a number of folders that isn't the
            number of classes.
    """
    ordered = sorted(set(names))
    if all(name.isascii() and name.isdecimal() for name in ordered):
        return _integers(ordered, num_classes, root)
    subset = infer_imagenet_subset({"num_classes": num_classes})
    if subset is not None and all(_SYNSET.fullmatch(name) for name in ordered):
        return _synsets(ordered, subset, num_classes, root)
    if len(ordered) != num_classes:
        raise InputError(
            f"{root} has {len(ordered)} class folders and the network {num_classes} classes: "
            "name the folders by class index or ImageNet synset, or give one folder for every class"
        )
    return {name: index for index, name in enumerate(ordered)}


def _integers(names: list[str], num_classes: int, root: Path) -> dict[str, int]:
    indices = {name: int(name) for name in names}
    for name, index in indices.items():
        if index >= num_classes:
            raise InputError(
                f"the class folder {root / name} is out of range: the network has the classes 0 to "
                f"{num_classes - 1}, rename or remove the folder"
            )
    return indices


def _synsets(names: list[str], subset: str, num_classes: int, root: Path) -> dict[str, int]:
    info: Any = ImageNetInfo(subset)
    known = {name: index for index, name in enumerate(info.label_names())}
    for name in names:
        if known.get(name, num_classes) >= num_classes:
            raise InputError(
                f"the class folder {root / name} is no synset of {subset}, whose {num_classes} classes the "
                "network seems to have: rename or remove the folder"
            )
    return {name: known[name] for name in names}
