"""Versions of what produced a report's figures."""

from __future__ import annotations

import platform

import torch

import snnconvert.version


def versions() -> dict[str, str]:
    """Versions of this package, torch and Python."""
    return {
        "snnconvert": snnconvert.version.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
