"""The process of the command line: its standard output carries what the command writes, and nothing else."""

from __future__ import annotations

import os
import sys

from snnconvert.cli.main import main


def run() -> int:
    """Runs :func:`~snnconvert.cli.main.main` as the whole of a process."""
    own_stdout()
    return main()


def own_stdout() -> None:
    """Gives ``sys.stdout`` a descriptor of its own; what libraries print in C (HiGHS does) goes to stderr."""
    given = sys.stdout
    try:
        descriptor = os.dup(given.fileno())
        os.dup2(sys.stderr.fileno(), given.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return
    sys.stdout = os.fdopen(
        descriptor, "w", encoding=given.encoding, errors=given.errors, buffering=1 if given.isatty() else -1
    )
