"""The solver without what its C++ code writes to standard output in spite of its options."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDOUT = 1


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Drops what compiled code writes to the process's standard output, whatever ``sys.stdout`` is.

    HiGHS prints a line when it repairs an integer solution. What other threads write there meanwhile is dropped, too.
    """
    _flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # closed: nothing can be written
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDOUT)
        yield
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)
        os.close(nowhere)


def _flush() -> None:
    """Empties the buffers of Python and C."""
    with suppress(AttributeError, OSError, ValueError):  # sys.stdout may be None, closed or no file
        sys.stdout.flush()
    with suppress(AttributeError, OSError, TypeError):  # Windows has no library of this process's own
        ctypes.CDLL(None).fflush(None)
