"""Batches from whatever a user's loader gives: tensors, (x, y) pairs, dicts, or through a transform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from snnconvert.errors import InputError

_INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "img")
_CHUNK = 32


def input_batches(loader: Iterable[Any] | Tensor, transform: Callable[[Any], Tensor] | None = None) -> Iterator[Tensor]:
    """Yields float32 input batches [N, ...] of a loader, each checked.

    Args:
        loader: an iterable of batches, or one tensor [N, ...], which is read in parts.
        transform: turns one item of the loader into an input tensor [N, ...].

    Raises:
        InputError: on an item with no input tensor, an empty batch, or NaN or Inf, naming the batch.
    """
    if isinstance(loader, Tensor):
        if loader.dim() < 2:
            raise InputError(f"the calibration tensor has shape {tuple(loader.shape)}: expected [N, ...]")
        loader = torch.split(loader, _CHUNK)
    if not isinstance(loader, Iterable):
        raise InputError(
            f"the calibration loader is {type(loader).__name__}: give it an iterable of batches or a tensor"
        )
    for index, item in enumerate(loader):
        batch = transform(item) if transform is not None else _input_of(item, index)
        yield _checked(batch, index)


def _input_of(item: Any, index: int) -> Tensor:
    if isinstance(item, Tensor):
        return item
    if isinstance(item, (tuple, list)) and item and isinstance(item[0], Tensor):
        return item[0]
    if isinstance(item, Mapping):
        for key in _INPUT_KEYS:
            value = item.get(key)
            if isinstance(value, Tensor):
                return value
        raise InputError(
            f"batch {index} is a dict with keys {sorted(map(str, item))}, none of {', '.join(_INPUT_KEYS)}: "
            "pass transform= to pick the input tensor"
        )
    raise InputError(
        f"batch {index} is {type(item).__name__}, not a tensor, (input, label) pair or dict: "
        "pass transform= to turn it into an input tensor"
    )


def _checked(batch: object, index: int) -> Tensor:
    if not isinstance(batch, Tensor):
        raise InputError(f"transform returned {type(batch).__name__} for batch {index}, not a tensor")
    if batch.dim() < 2 or batch.shape[0] == 0:
        raise InputError(f"batch {index} has shape {tuple(batch.shape)}: expected [N, ...] with N of at least 1")
    values = batch if batch.is_complex() else batch.float()
    if values.is_complex() or not torch.isfinite(values).all():
        raise InputError(f"batch {index} holds NaN, Inf or complex numbers: clean the calibration images")
    return values
