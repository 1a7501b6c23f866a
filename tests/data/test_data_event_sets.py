import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.data.event_archive import EventArchive
from snnconvert.data.event_sets import EVENT_SETS, EventFrames, event_set, split_by_class
from snnconvert.data.events import event_frames
from snnconvert.errors import ConfigurationError, InputError

DVS = [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", bool)]
SHD = [("t", np.int64), ("x", np.int64), ("p", np.int64)]


def dvs_events(count, seed, side=128):
    rng = np.random.default_rng(seed)
    events = np.empty(count, DVS)
    events["x"], events["y"] = rng.integers(0, side, (2, count))
    events["p"] = rng.integers(0, 2, count)
    events["t"] = np.sort(rng.integers(0, 1_300_000, count))
    return events


def shd_events(count, seed):
    rng = np.random.default_rng(seed)
    events = np.empty(count, SHD)
    events["x"], events["p"] = rng.integers(0, 700, count), 1
    events["t"] = np.sort(rng.integers(0, 1_000_000, count))
    return events


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_slices_of_equal_counts_and_smaller_frames(count, steps, columns, rows, seed):
    events = dvs_events(count, seed, side=8)
    frames = event_frames(events, (8, 8, 2), steps, slices="count", size=(columns, rows))
    expected = np.zeros((steps, 2, rows, columns))
    for number, event in enumerate(events):
        x, y = int(event["x"]), int(event["y"])
        expected[number * steps // count, int(event["p"]), y * rows // 8, x * columns // 8] += 1
    np.testing.assert_array_equal(frames.numpy(), expected)
    per_slice = frames.flatten(1).sum(1)
    assert per_slice.max() - per_slice.min() <= 1


def test_smaller_frames_sum_neighbouring_pixels():
    events = dvs_events(5000, 0)
    whole, halved = (event_frames(events, (128, 128, 2), 3, size=size) for size in (None, (64, 32)))
    assert torch.equal(halved, torch.nn.functional.avg_pool2d(whole, (4, 2)) * 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slices": "events"}, "one of time, count"),
        ({"size": (129, 128)}, "only be smaller"),
        ({"size": (0, 4)}, "0×4"),
    ],
)
def test_other_slices_and_sizes_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        event_frames(dvs_events(10, 0), (128, 128, 2), 2, **fields)


def test_frames_of_a_camera_by_index():
    recordings = [(dvs_events(1000 + i, i), np.int64(i)) for i in range(3)]
    frames = EventFrames(recordings, (128, 128, 2), 10, "count", (48, 48))
    assert len(frames) == 3
    seen = list(frames)
    assert [label for _, label in seen] == [0, 1, 2]
    assert [int(frame.sum()) for frame, _ in seen] == [1000, 1001, 1002]
    batch, labels = next(iter(torch.utils.data.DataLoader(frames, batch_size=3)))
    assert batch.shape == (3, 10, 2, 48, 48)
    assert labels.tolist() == [0, 1, 2]


def test_a_cochlea_has_one_row_and_one_polarity():
    frames, label = EventFrames([(shd_events(800, 1), 7)], (700, 1, 1), 10, "time", (140, 1))[0]
    assert (frames.shape, label) == ((10, 1, 1, 140), 7)
    assert frames.sum() == 800
    channels = np.bincount(shd_events(800, 1)["x"] // 5, minlength=140)
    np.testing.assert_array_equal(frames.sum((0, 1, 2)).numpy(), channels)


def test_a_bad_recording_is_named():
    events = dvs_events(10, 0)[["x", "t", "p"]]
    with pytest.raises(InputError, match=r"recording 1: .*missing: y"):
        EventFrames([(dvs_events(5, 0), 0), (events, 1)], (128, 128, 2), 4)[1]
    with pytest.raises(ConfigurationError, match="slices"):
        EventFrames([], (4, 4, 2), 4, "events")


def test_classes_are_split_by_the_numbers_in_names():
    names = [f"cifar10_{word}_{number}.aedat4" for word in ("cat", "dog") for number in (10, 9, 1, 100, 2)]
    labels = [0] * 5 + [1] * 5
    train, test = (split_by_class(names, labels, 0.8, train=part) for part in (True, False))
    assert [names[i].split("_")[2] for i in train] == ["1.aedat4", "2.aedat4", "9.aedat4", "10.aedat4"] * 2
    assert [names[i].split("_")[2] for i in test] == ["100.aedat4"] * 2
    assert sorted(train + test) == list(range(10))


class FakeSet:
    """Recordings in tonic's types under the arguments of tonic's classes."""

    def __init__(self, save_to, train=None):
        self.save_to, self.train = save_to, train
        self.data = [f"{save_to}/airplane_{number}.aedat4" for number in (3, 1, 2, 0)] * 5
        self.targets = [number // 4 for number in range(20)]

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return dvs_events(100 + index, index), self.targets[index]


@pytest.mark.parametrize("name", EVENT_SETS)
def test_the_table_agrees_with_tonic(name):
    datasets = pytest.importorskip("tonic.datasets")
    known = EVENT_SETS[name]
    theirs = getattr(datasets, known.tonic_name)
    assert theirs.sensor_size == known.sensor_size
    if hasattr(theirs, "classes"):
        assert len(theirs.classes) == known.classes
    events = np.zeros(4, theirs.dtype)
    events["t"] = np.arange(4)
    frames, _ = EventFrames([(events, 0)], known.sensor_size, known.T, known.slices, known.size)[0]
    assert frames.shape == (known.T, known.sensor_size[2], known.size[1], known.size[0])
    assert frames.sum() == 4


def test_a_set_of_tonic_is_split_and_binned(monkeypatch, tmp_path):
    datasets = pytest.importorskip("tonic.datasets")
    monkeypatch.setattr(datasets, "CIFAR10DVS", FakeSet)
    monkeypatch.setattr(datasets, "DVSGesture", FakeSet)
    train, test = (event_set("cifar10-dvs", tmp_path, train=part) for part in (True, False))
    assert (len(train), len(test)) == (20, 0)  # 4 of each class: 3.6 rounds to 4
    frames, label = train[0]
    assert (frames.shape, label) == ((10, 2, 48, 48), 0)
    assert frames.sum() == 103  # airplane_0 is the fourth file on disk
    gesture = event_set("dvs-gesture", tmp_path, train=False, T=4, size=(64, 64))
    assert gesture[5][0].shape == (4, 2, 64, 64)
    assert gesture.recordings.train is False
    assert gesture.recordings.save_to == str(tmp_path)


def test_without_tonic_the_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def refusing(name, *args, **fields):
        if name.partition(".")[0] == "tonic":
            raise ImportError("No module named 'tonic'")
        return real(name, *args, **fields)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(InputError, match=r"snnconvert\[events\]"):
        event_set("shd", tmp_path, train=True)
    with pytest.raises(ConfigurationError, match="cifar10-dvs, dvs-gesture"):
        event_set("ncars", tmp_path, train=True)


def test_archives_of_events(tmp_path):
    arrays = {
        "x": np.array([1, 2, 3], np.uint8),
        "y": np.array([4, 5, 6], np.uint8),
        "p": np.array([0, 1, 1], np.uint8),
        "t_us": np.array([7, 8, 9], np.uint32),
        "offset": np.array([0, 1, 1, 3]),
        "label": np.array([9, 8, 7]),
    }
    path = tmp_path / "events.npz"
    np.savez(path, **arrays)
    archive = EventArchive(path)
    assert [label for _, label in archive] == [9, 8, 7]
    assert [len(events) for events, _ in archive] == [1, 0, 2]
    assert archive[2][0][1].tolist() == (3, 6, 9, 1)
    frames = EventFrames(archive, (8, 8, 2), 2)
    assert [int(frame.sum()) for frame, _ in frames] == [1, 0, 2]
    np.savez(path, **{name: values for name, values in arrays.items() if name != "p"})
    with pytest.raises(InputError, match=r"missing: p"):
        EventArchive(path)
    np.savez(path, **{**arrays, "label": arrays["label"][:2]})
    with pytest.raises(InputError, match="one entry more"):
        EventArchive(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a readable"):
        EventArchive(path)
