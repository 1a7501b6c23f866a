"""Saving and loading the parts of a hybrid network: a folder a part, and an index."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnconvert.artifact.atomic import replaced_folder
from snnconvert.errors import ArtifactError, first_line

INDEX_SCHEMA = "snnconvert.parts/1"
_INDEX = "parts.json"
_REPORT = "report.json"
_FOLDER = re.compile(r"part_[0-9]+", re.ASCII)


@dataclass(frozen=True)
class PartsIndex:
    """What an index says.

    Attributes:
        folders: the folder of each part, by its name in the model.
        outside: (name, reason) of each module that stays as it is.
        coverage: share of the multiply-accumulates on spikes.
    """

    folders: Mapping[str, Path]
    outside: tuple[tuple[str, str], ...]
    coverage: float


def save_parts(
    directory: Path,
    savers: Mapping[str, Callable[[Path], None]],
    outside: Sequence[Mapping[str, str]],
    coverage: float,
    *,
    force: bool = False,
    report: Mapping[str, Any] | None = None,
) -> None:
    """Lets each part write its folder, and writes the index, and report.json if a report is given.

    Raises:
        InputError: if the folder can't be written, or isn't empty and ``force`` isn't given.
    """
    with replaced_folder(directory, force=force) as folder:
        names = {name: f"part_{index}" for index, name in enumerate(savers)}
        for name, save in savers.items():
            save(folder / names[name])
        index = {"schema": INDEX_SCHEMA, "parts": names, "outside": list(outside), "coverage": coverage}
        (folder / _INDEX).write_text(json.dumps(index, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if report is not None:
            text = json.dumps(report, separators=(",", ":"), allow_nan=False)
            (folder / _REPORT).write_text(text + "\n", encoding="utf-8")


def is_hybrid(directory: Path) -> bool:
    """Whether a folder holds the parts of a hybrid network."""
    return (directory / _INDEX).is_file()


def load_parts(directory: Path) -> PartsIndex:
    """Reads the index that :func:`save_parts` wrote.

    Raises:
        ArtifactError: if it is missing, damaged or of another version.
    """
    path = directory / _INDEX
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != INDEX_SCHEMA:
            raise ArtifactError(f"{path}: schema {data['schema']!r} is not {INDEX_SCHEMA!r}")
        folders = {str(name): directory / _checked(folder) for name, folder in data["parts"].items()}
        outside = tuple((str(item["name"]), str(item["reason"])) for item in data["outside"])
        return PartsIndex(folders, outside, float(data["coverage"]))
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} is damaged: {type(error).__name__}: {first_line(error)}") from None


def _checked(folder: object) -> str:
    if not isinstance(folder, str) or _FOLDER.fullmatch(folder) is None:
        raise ValueError(f"{folder!r} is no part's folder")
    return folder
