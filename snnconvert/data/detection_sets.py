"""Opens a user's images with boxes, whatever they come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from snnconvert.data.boxes import BoxedImage, BoxedImages, LabelRange
from snnconvert.data.coco import annotation_files, read_coco
from snnconvert.data.division import Pool, Wishes, divide
from snnconvert.data.plain import PlainImages, Prepare, holds_images, open_plain
from snnconvert.data.sets import TaskSets
from snnconvert.data.voc import is_voc, read_voc
from snnconvert.errors import InputError

CLASSES_FILE = "classes.txt"
_LARGEST = 2**20
_EXPECTED = (
    "expected COCO's annotations (a .json in DIR/annotations/ or DIR, or --annotations FILE) with the images beside "
    "them, Pascal VOC's JPEGImages/ and Annotations/, or images alone"
)
_SYNONYMS = {  # of Pascal VOC's names, in COCO
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_Pools = tuple[Pool[BoxedImage], "Pool[BoxedImage] | None"]


def open_boxes(
    path: Path,
    prepare: Prepare,
    *,
    labels: LabelRange,
    names: Sequence[str],
    annotations: Path | None = None,
    wishes: Wishes,
) -> TaskSets:
    """Opens images with boxes.

    Args:
        path: A folder with COCO's annotations or in Pascal VOC's layout; images alone have no boxes.
        prepare: Turns an image into the network's input.
        labels: What the network gives.
        names: Its classes, from label 0 on, as far as they are known; DIR/classes.txt takes their place, with the
            names from the first label on.
        annotations: COCO's file, if it isn't to be looked for.
        wishes: How many images.

    Raises:
        InputError: The folder, its layout or its annotations can't be used; the message says why.
    """
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: {_EXPECTED}")
    pools = _pools(path, labels, names, annotations)
    if pools is None:
        if holds_images(path):
            return open_plain(path, prepare, wishes)
        raise InputError(f"{path} has no images with boxes: {_EXPECTED}")
    division = divide(*pools, wishes)
    return TaskSets(
        PlainImages([item.path for item in division.calibration], prepare),
        BoxedImages(division.evaluation),
        labelled=True,
        description=division.description,
    )


def _pools(path: Path, labels: LabelRange, names: Sequence[str], annotations: Path | None) -> _Pools | None:
    if annotations is not None:
        if not annotations.is_file():
            raise InputError(f"there is no annotation file {annotations}: check the path")
        return read_coco(annotations, path, labels), None
    if is_voc(path):
        return read_voc(path, _by_name(path, labels, names))
    files = annotation_files(path)
    if files is None:
        return None
    held_out = read_coco(files[0], path, labels)
    if files[1] is None:
        return held_out, None
    training = read_coco(files[1], path, labels)
    both = {item.path for item in held_out.items} & {item.path for item in training.items}
    if both:
        raise InputError(f"{min(both)} is in {files[0]} and in {files[1]}: an image can't calibrate and evaluate")
    return held_out, training


def _by_name(root: Path, labels: LabelRange, names: Sequence[str]) -> Mapping[str, int]:
    """The label of each class's name."""
    file = root / CLASSES_FILE
    if file.is_file():
        return _listed(file, labels)
    found = {name: label for label, name in enumerate(names) if labels.first <= label < labels.classes}
    if not found:
        raise InputError(
            f"{root} names classes and it isn't known what those of the network are called: list them in {file}, one "
            f"a line, from class {labels.first} on"
        )
    return {**found, **{name: found[other] for name, other in _SYNONYMS.items() if other in found}}


def _listed(file: Path, labels: LabelRange) -> Mapping[str, int]:
    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file} is larger than {_LARGEST >> 20} MiB: it is no list of classes")
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file} can't be read: it should be a text file with a class a line") from None
    listed = [line for line in lines if line]
    if len(listed) != labels.classes - labels.first or len(set(listed)) != len(listed):
        raise InputError(
            f"{file} lists {len(set(listed))} classes, the network has {labels.classes - labels.first}: name each once"
        )
    return {name: labels.first + index for index, name in enumerate(listed)}
