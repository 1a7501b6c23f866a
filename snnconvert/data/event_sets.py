"""Event data sets as the papers feed them to networks: T frames of a recording, smaller than the sensor.

CIFAR10-DVS, DVS128 Gesture, N-MNIST and SHD, each with the numbers of ``EVENT_SETS``.

Source: Li et al., CIFAR10-DVS (Front. Neurosci. 2017); Amir et al., DVS128 Gesture (CVPR 2017); Orchard et al., N-MNIST
(Front. Neurosci. 2015); Cramer et al., SHD (IEEE TNNLS 2020). That frames hold equal numbers of events follows Fang et
al. (ICCV 2021).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snnconvert.data.events import SLICES, EventDataset, event_frames
from snnconvert.errors import ConfigurationError, InputError

_EXTRA = "pip install 'snnconvert[events]'"


@dataclass(frozen=True)
class EventSet:
    """How recordings of one data set become frames.

    Attributes:
        tonic_name: its class in ``tonic.datasets``.
        sensor_size: width, height and number of polarities.
        classes: how many there are.
        T: time steps.
        slices: "time" or "count", as :func:`~snnconvert.data.events.event_frames` takes it.
        size: width and height of the frames.
        training_share: share of each class's recordings, in the order of their names, that train; None: the set has a
            split of its own.
    """

    tonic_name: str
    sensor_size: tuple[int, int, int]
    classes: int
    T: int
    slices: str
    size: tuple[int, int]
    training_share: float | None = None


EVENT_SETS = {
    "cifar10-dvs": EventSet("CIFAR10DVS", (128, 128, 2), 10, 10, "count", (48, 48), 0.9),
    "dvs-gesture": EventSet("DVSGesture", (128, 128, 2), 11, 16, "count", (128, 128)),
    "n-mnist": EventSet("NMNIST", (34, 34, 2), 10, 10, "time", (34, 34)),
    "shd": EventSet("SHD", (700, 1, 1), 20, 10, "time", (140, 1)),
}


class EventFrames:
    """Recordings as (frames float32 [T, P, H, W], label), by index; what torch's ``DataLoader`` takes.

    Batches of a loader are [N, T, P, H, W]: the networks take ``frames.transpose(0, 1)``.
    """

    def __init__(
        self,
        recordings: EventDataset,
        sensor_size: Sequence[int],
        T: int,
        slices: str = "time",
        size: Sequence[int] | None = None,
    ) -> None:
        """Wraps recordings.

        Args:
            recordings: (events, label) by index; events without a field y are those of a sensor of height 1, and with
                one polarity their p doesn't matter.
            sensor_size: width, height and number of polarities.
            T: time steps.
            slices: "time" or "count".
            size: width and height of the frames; None: the sensor's.

        Raises:
            ConfigurationError: if ``slices`` is neither.
        """
        if slices not in SLICES:
            raise ConfigurationError(f"slices must be one of {', '.join(SLICES)}, got {slices!r}")
        self.recordings = recordings
        self.sensor_size = tuple(sensor_size)
        self.T, self.slices, self.size = T, slices, size

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One recording's frames and label.

        Raises:
            InputError: as :func:`~snnconvert.data.events.event_frames`, naming the recording.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        events, label = self.recordings[index]
        try:
            plane = _in_a_plane(events, self.sensor_size)
            frames = event_frames(plane, self.sensor_size, self.T, slices=self.slices, size=self.size)
        except InputError as error:
            raise InputError(f"recording {index}: {error}") from None
        return frames, int(label)


class _Part:
    """Some recordings of a data set."""

    def __init__(self, whole: EventDataset, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._whole[self._indices[index]]


def event_set(
    name: str, root: str | Path, *, train: bool, T: int | None = None, size: Sequence[int] | None = None
) -> EventFrames:
    """A data set of tonic, split and binned as ``EVENT_SETS`` says.

    Args:
        name: one of ``EVENT_SETS``.
        root: the folder tonic keeps data in; what isn't there is downloaded by tonic.
        train: the training part, or the test part.
        T: time steps; None: those of ``EVENT_SETS``.
        size: width and height of the frames; None: that of ``EVENT_SETS``.

    Raises:
        ConfigurationError: if there is no such set.
        InputError: if tonic isn't installed; the message names the extra that brings it.
    """
    if name not in EVENT_SETS:
        raise ConfigurationError(f"event set must be one of {', '.join(EVENT_SETS)}, got {name!r}")
    known = EVENT_SETS[name]
    try:
        from tonic import datasets
    except ImportError as error:
        raise InputError(f"{name} is read by tonic, which can't be imported ({error}): {_EXTRA}") from None
    make = getattr(datasets, known.tonic_name)
    recordings: EventDataset
    if known.training_share is None:
        recordings = make(save_to=str(root), train=train)
    else:
        whole = make(save_to=str(root))
        recordings = _Part(whole, split_by_class(whole.data, whole.targets, known.training_share, train=train))
    return EventFrames(recordings, known.sensor_size, T or known.T, known.slices, size or known.size)


def split_by_class(names: Sequence[str], labels: Sequence[int], share: float, *, train: bool) -> list[int]:
    """Indices of one part: of each class the first ⌊share·n⌉ recordings train, the others test.

    Args:
        names: of the recordings' files, whose order on disk doesn't matter; numbers in them count as numbers.
        labels: classes.
        share: of the training part, 0..1.
        train: which part.
    """
    chosen = []
    for label in sorted(set(labels)):
        members = sorted((i for i, other in enumerate(labels) if other == label), key=lambda i: _natural(names[i]))
        cut = round(share * len(members))
        chosen += members[:cut] if train else members[cut:]
    return chosen


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _in_a_plane(events: Any, sensor_size: Sequence[int]) -> Any:
    """Events with y = 0 where sensors have one row, and p = 0 where they have one polarity."""
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    height, polarities = sensor_size[1:]
    if not {"x", "t"} <= set(names) or (height > 1 and polarities > 1):
        return events
    fields = {name: np.asarray(events[name]) for name in names}
    if height == 1:
        fields.setdefault("y", np.zeros(len(events), np.int64))
    if polarities == 1:
        fields["p"] = np.zeros(len(events), np.int64)
    plane = np.empty(len(events), [(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        plane[name] = values
    return plane
