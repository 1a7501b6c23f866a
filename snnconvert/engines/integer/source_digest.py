"""What the package's code is, as one number: a built model is only as good as the code that built it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def source_digest(folder: Path) -> str:
    """SHA-256 of the Python files in a folder and below: their paths in it, and what they hold.

    Raises:
        OSError: if a file can't be read.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def package_digest() -> str:
    """:func:`source_digest` of this package, as it is when first asked for."""
    return source_digest(_PACKAGE)
