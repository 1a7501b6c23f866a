"""Event recordings in one .npz file, read without any other package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnconvert.errors import InputError

_NEEDED = ("x", "y", "p", "t_us", "offset", "label")
EVENT_TYPE = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


class EventArchive:
    """Recordings of one file, with the items that tonic's data sets have.

    The file holds x, y, p and t_us of all events one after the other; recording i is events ``offset[i]`` up to but not
    including ``offset[i + 1]``, its class ``label[i]``.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads a file.

        Args:
            path: the .npz file.

        Raises:
            InputError: if it can't be read, or lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                self._arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: not a readable .npz file of events ({error})") from None
        missing = [name for name in _NEEDED if name not in self._arrays]
        if missing:
            raise InputError(f"{path}: an archive of events needs {', '.join(_NEEDED)}; missing: {', '.join(missing)}")
        ends, labels = self._arrays["offset"], self._arrays["label"]
        if len(ends) != len(labels) + 1:
            raise InputError(f"{path}: offset must have one entry more than label, got {len(ends)} and {len(labels)}")

    def __len__(self) -> int:
        return len(self._arrays["label"])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], int]:
        """Events of one recording (fields x, y, t in microseconds, p), and its label."""
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        first, last = self._arrays["offset"][index : index + 2]
        events = np.empty(last - first, EVENT_TYPE)
        for field, name in (("x", "x"), ("y", "y"), ("t", "t_us"), ("p", "p")):
            events[field] = self._arrays[name][first:last]
        return events, int(self._arrays["label"][index])
