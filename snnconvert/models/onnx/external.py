"""External data: bytes of a tensor in another file, read only from inside the model's own folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from snnconvert.errors import InputError


@dataclass
class ExternalData:
    """Reads regions of the files beside one model; a file never gives more bytes than it has.

    Attributes:
        path: The model's own path.
    """

    path: Path
    _regions: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)

    def read(self, tensor: str, entries: Mapping[str, str], expected: int) -> bytes:
        """The bytes of one tensor.

        Args:
            tensor: Its name, for messages.
            entries: location, offset and length, as the file gives them.
            expected: Bytes that its shape and type take.

        Raises:
            InputError: if the location leaves the model's folder, is a link or no file, or the region doesn't fit.
        """
        location = self._checked_location(tensor, entries.get("location", ""))
        offset = self._number(tensor, entries, "offset", 0)
        length = self._number(tensor, entries, "length", expected)
        if length != expected:
            raise self._refused(tensor, f"says {length} bytes and its shape takes {expected}")
        key = (location, offset, length)
        if key not in self._regions:
            self._regions[key] = self._region(tensor, *key)
        return self._regions[key]

    @property
    def bytes_read(self) -> int:
        """Bytes read so far."""
        return sum(self._taken.values())

    def _region(self, tensor: str, location: str, offset: int, length: int) -> bytes:
        target = self.path.parent / location
        # No link is followed at the end of the path, and whatever is opened is checked, not its name.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(target, flags)
        except OSError as error:
            raise self._refused(tensor, f"in {location!r} can't be read: {error.strerror or error}") from None
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise self._refused(tensor, f"in {location!r} is not in a regular file")
            if status.st_nlink > 1:
                raise self._refused(tensor, f"in {location!r} is in a file with several hard links")
            taken = self._taken.get(location, 0) + length
            if offset + length > status.st_size or taken > status.st_size:
                raise self._refused(
                    tensor, f"asks for bytes {offset} to {offset + length} of {location!r}, which has {status.st_size}"
                )
            self._taken[location] = taken
            file.seek(offset)
            content = file.read(length)
        if len(content) != length:
            raise self._refused(tensor, f"in {location!r} is cut short")
        return content

    def _checked_location(self, tensor: str, location: str) -> str:
        parts = PurePosixPath(location.replace("\\", "/")).parts
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor != ""
        if not parts or "\0" in location or absolute or ".." in parts:
            raise self._refused(tensor, f"is at {location!r}, which is not inside the model's own folder")
        folder = self.path.parent
        for part in parts:
            folder = folder / part
            if folder.is_symlink():
                raise self._refused(tensor, f"is at {location!r}, which is a symbolic link")
        return "/".join(parts)

    def _number(self, tensor: str, entries: Mapping[str, str], key: str, default: int) -> int:
        text = entries.get(key, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._refused(tensor, f"has the {key} {text[:40]!r}, which is no byte count")
        return int(text)

    def _refused(self, tensor: str, reason: str) -> InputError:
        return InputError(
            f"{self.path}: the external data of '{tensor}' {reason}: keep model and data files together as exported"
        )
