"""Event-camera recordings as frames: what drives a spiking network in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.errors import InputError

SLICES = ("time", "count")
_FIELDS = ("x", "y", "t", "p")


class EventDataset(Protocol):
    """Recordings and labels by index, as the data sets of the tonic package have them."""

    def __len__(self) -> int:
        """The number of recordings."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """(events, label): a structured array with the fields x, y, t and p, and a class index."""


def event_frames(
    events: Any, sensor_size: Sequence[int], steps: int, *, slices: str = "time", size: Sequence[int] | None = None
) -> Tensor:
    """Counts the events of each pixel and polarity in T equal slices of a recording.

    Event i of n belongs to slice ⌊T·(t_i − t_first)/(t_last − t_first + 1)⌋, or ⌊T·i/n⌋ if slices hold equal numbers of
    events; pixel (x, y) to ⌊x·W'/W⌋, ⌊y·H'/H⌋ of smaller frames. Every event is in exactly one place, so that the
    frames add up to all of them.

    Args:
        events: structured array with the fields x, y, t and p, in any order and integer type.
        sensor_size: width, height and number of polarities, as in tonic.
        steps: T.
        slices: "time": slices of equal time; "count": of equal numbers of events.
        size: width W' and height H' of the frames, at most the sensor's; None: the sensor's.

    Returns:
        float32 [T, P, H', W'].

    Raises:
        InputError: if a field is missing, a coordinate lies outside the sensor, times run backwards, or ``slices`` or
            ``size`` can't be.
    """
    width, height, polarities = (int(size) for size in sensor_size)
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a positive integer, got {steps!r}")
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    missing = [name for name in _FIELDS if name not in names]
    if missing:
        raise InputError(f"events need the fields x, y, t and p; missing: {', '.join(missing)}")
    x, y, t, p = (np.asarray(events[name]).astype(np.int64) for name in _FIELDS)
    for name, values, limit in (("x", x, width), ("y", y, height), ("p", p, polarities)):
        if values.size and not (values.min() >= 0 and values.max() < limit):
            raise InputError(f"events' {name} runs from {values.min()} to {values.max()}, the sensor has {limit}")
    if (np.diff(t) < 0).any():
        raise InputError("events' times run backwards: sort them by t")
    columns, rows = _frame_size(size, width, height)
    cells = ((_slice_numbers(t, steps, slices) * polarities + p) * rows + y * rows // height) * columns
    counts = np.bincount(cells + x * columns // width, minlength=steps * polarities * rows * columns)
    return torch.from_numpy(counts.astype(np.float32)).view(steps, polarities, rows, columns)


def _frame_size(size: Sequence[int] | None, width: int, height: int) -> tuple[int, int]:
    if size is None:
        return width, height
    columns, rows = (int(side) for side in size)
    if not (1 <= columns <= width and 1 <= rows <= height):
        raise InputError(f"frames of {columns}×{rows} don't fit a sensor of {width}×{height}: they can only be smaller")
    return columns, rows


def _slice_numbers(t: NDArray[np.int64], steps: int, slices: str) -> NDArray[np.int64]:
    if slices not in SLICES:
        raise InputError(f"slices must be one of {', '.join(SLICES)}, got {slices!r}")
    if slices == "count":
        return np.arange(t.size) * steps // max(t.size, 1)
    return (t - t[0]) * steps // (t[-1] - t[0] + 1) if t.size else t


def event_batches(
    dataset: EventDataset, sensor_size: Sequence[int], steps: int, batch_size: int = 32
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of event frames and labels from recordings, for example of tonic's data sets.

    Args:
        dataset: the recordings.
        sensor_size: width, height and number of polarities.
        steps: T.
        batch_size: recordings in a batch N; the last one may be smaller.

    Yields:
        (frames float32 [T, N, P, H, W], labels int64 [N]): ``SpikingModel.simulate`` takes the frames,
        their sum over T is what the ANN sees.

    Raises:
        InputError: as :func:`event_frames`, naming the recording.
    """
    for start in range(0, len(dataset), batch_size):
        frames, labels = [], []
        for index in range(start, min(start + batch_size, len(dataset))):
            events, label = dataset[index]
            try:
                frames.append(event_frames(events, sensor_size, steps))
            except InputError as error:
                raise InputError(f"recording {index}: {error}") from None
            labels.append(int(label))
        yield torch.stack(frames, 1), torch.tensor(labels)
