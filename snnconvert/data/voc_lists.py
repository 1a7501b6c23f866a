"""The lists of image names in Pascal VOC's ImageSets/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snnconvert.errors import InputError

_EVALUATION, _TRAINING = ("val.txt", "test.txt", "trainval.txt", "train.txt"), "train.txt"
_LARGEST = 2**26


@dataclass(frozen=True)
class Lists:
    """Names of images to evaluate on, and to calibrate on if there is a list of these."""

    evaluation_file: Path
    evaluation: tuple[str, ...]
    training_file: Path | None
    training: tuple[str, ...]


def read_lists(folder: Path) -> Lists | None:
    """Reads val.txt (or test.txt, trainval.txt, train.txt) and train.txt; None if there is none.

    Raises:
        InputError: A list can't be read.
    """
    evaluation = next((folder / name for name in _EVALUATION if (folder / name).is_file()), None)
    if evaluation is None:
        return None
    training = folder / _TRAINING
    if evaluation.name not in _EVALUATION[:2] or not training.is_file():
        return Lists(evaluation, _names(evaluation), None, ())
    names, others = _names(evaluation), _names(training)
    both = sorted(set(names) & set(others))
    if both:
        raise InputError(f"{both[0]!r} is in {evaluation} and in {training}: an image can't calibrate and evaluate")
    return Lists(evaluation, names, training, others)


def find_image(files: Mapping[str, Path], folder: Path, stem: str, where: str) -> Path:
    """The file of a name.

    Raises:
        InputError: There is none.
    """
    if stem not in files:
        raise InputError(f"{where} names {stem!r}, and there is no such image in {folder}: add it, or take it out")
    return files[stem]


def _names(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than {_LARGEST >> 20} MiB: it is no list of images")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} can't be read: it should be a text file with the name of an image a line") from None
    return tuple(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
