"""Where real weights and labelled data lie, and how benchmarks write their results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "SNNCONVERT_DATA"
_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_folder(name: str) -> Path | None:
    """The folder of one data set, or None where it isn't there.

    Args:
        name: its name inside the data folder, such as ``cifar10``.
    """
    root = os.environ.get(VARIABLE)
    folder = (Path(root) if root else _BESIDE_CHECKOUT) / name
    return folder if folder.is_dir() else None


def require_data(name: str) -> Path:
    """The folder of one data set; leaves the program with one sentence where it isn't there."""
    folder = data_folder(name)
    if folder is None:
        raise SystemExit(f"no {name} data: set {VARIABLE} to the folder that holds {name}/")
    return folder


def emit(text: str = "") -> None:
    """Writes one line to stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit_json(result: Mapping[str, Any]) -> None:
    """Writes the final line: one JSON object."""
    emit(json.dumps(result))


def emit_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Writes a table with columns as wide as their widest cell."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        emit("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
