"""Exports without what torch writes about them: what matters is in the error."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without torch's warnings, log, and whole graphs on stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch's loggers have levels of their own
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
