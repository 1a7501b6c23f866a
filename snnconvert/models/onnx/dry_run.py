"""Runs on shapes alone: no values, no memory, no messages of torch's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def dry_run() -> Iterator[FakeTensorMode]:
    """Within it tensors have shapes and types, but no values."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False) as mode, torch.no_grad():
            yield mode
    finally:
        logger.setLevel(level)
