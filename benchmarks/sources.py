"""Which state of the sources gave a figure."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def package_hash(*others: Path) -> str:
    """Twelve hexadecimal digits that change with any file of the package.

    Args:
        others: further files that count.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in others))
    for path in sorted((ROOT / "snnconvert").rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
