"""Where in the user's own code an error came up: the innermost frame outside torch, Python and this package."""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

_LONGEST = 160
_CELL = re.compile(r"ipykernel_\d+")
_PACKAGE = Path(__file__).resolve().parents[1]
_FOREIGN = (
    Path(torch.__file__).resolve().parent,
    _PACKAGE,
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")),
)
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))


def user_line(error: BaseException) -> str:
    """The innermost frame of the user's model as " at file:line: code"; empty if the error shows none.

    A cell of a notebook is called that: its file is a temporary one.
    """
    for raised in _chain(error):
        frames = traceback.extract_tb(raised.__traceback__)
        for frame in reversed(frames):
            if frame.lineno is not None and _is_users(frame.filename):
                code = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
                line = code.splitlines()[0] if code else "?"
                shown = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
                return f" at {_place(frame.filename)}:{frame.lineno}: {shown}"
    return ""


def _place(filename: str) -> str:
    return "notebook cell" if _CELL.fullmatch(Path(filename).parent.name) else filename


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop(0)
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [current.__cause__, current.__context__]


def _is_users(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    parents = set(path.parents)
    if any(place in parents for place in _FOREIGN[:2]):
        return False
    return any(place in parents for place in _INSTALLED) or not any(place in parents for place in _FOREIGN[2:])
