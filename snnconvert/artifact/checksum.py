"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal, read a piece at a time.

    Raises:
        OSError: if it can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
