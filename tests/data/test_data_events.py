import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.nmnist import SENSOR, load_recordings, summed
from benchmarks.real_data import data_folder
from snnconvert.data.events import event_batches, event_frames
from snnconvert.errors import InputError

TONIC_LAYOUTS = {
    "nmnist": [("x", int), ("y", int), ("t", int), ("p", int)],
    "dvsgesture": [("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.int64)],
    "dvscifar": [("t", np.uint32), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)],
}


def recording(count, size, seed=0, layout="nmnist", span=10_000):
    rng = np.random.default_rng(seed)
    events = np.empty(count, TONIC_LAYOUTS[layout])
    width, height, polarities = size
    for name, high in (("x", width), ("y", height), ("p", polarities)):
        events[name] = rng.integers(0, high, count)
    events["t"] = np.sort(rng.integers(5, 5 + span, count))
    return events


def counted_one_by_one(events, size, steps):
    width, height, polarities = size
    frames = np.zeros((steps, polarities, height, width))
    first, last = int(events["t"][0]), int(events["t"][-1])
    for event in events:
        time = int(event["t"]) - first
        place = next(k for k in range(steps) if time * steps < (k + 1) * (last - first + 1))
        frames[place, int(event["p"]), int(event["y"]), int(event["x"])] += 1
    return frames


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 10**6), st.sampled_from(sorted(TONIC_LAYOUTS)))
@settings(max_examples=60, deadline=None)
def test_every_event_is_counted_in_its_slice(count, steps, seed, layout):
    size = (7, 4, 2)
    events = recording(count, size, seed, layout, span=1 + seed % 200)
    frames = event_frames(events, size, steps)
    assert frames.dtype == torch.float32
    np.testing.assert_array_equal(frames.numpy(), counted_one_by_one(events, size, steps))
    assert frames.sum() == count


def test_a_recording_without_events_is_silent():
    events = np.empty(0, TONIC_LAYOUTS["nmnist"])
    assert event_frames(events, (3, 2, 2), 4).shape == (4, 2, 2, 3)
    assert not event_frames(events, (3, 2, 2), 4).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda events: events[["x", "y", "t"]], "missing: p"),
        (lambda events: events["x"], "missing: x, y, t, p"),
        (lambda events: [1, 2, 3], "missing: x, y, t, p"),
        (lambda events: events[::-1], "run backwards"),
    ],
)
def test_other_recordings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        event_frames(change(recording(50, (7, 4, 2))), (7, 4, 2), 3)


@pytest.mark.parametrize("size", [(6, 4, 2), (7, 3, 2), (7, 4, 1)])
def test_events_outside_the_sensor_are_refused(size):
    with pytest.raises(InputError, match="the sensor has"):
        event_frames(recording(500, (7, 4, 2)), size, 3)


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_steps_must_be_positive(steps):
    with pytest.raises(InputError, match="steps"):
        event_frames(recording(5, (7, 4, 2)), (7, 4, 2), steps)


def test_batches_have_time_first_and_name_a_bad_recording():
    size = (7, 4, 2)
    dataset = [(recording(20 + i, size, i), np.uint8(i)) for i in range(5)]
    batches = list(event_batches(dataset, size, 3, batch_size=2))
    assert [tuple(frames.shape) for frames, _ in batches] == [(3, 2, 2, 4, 7), (3, 2, 2, 4, 7), (3, 1, 2, 4, 7)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 2, 3, 4]
    for index, (events, _) in enumerate(dataset):
        frames, _ = batches[index // 2]
        assert torch.equal(frames[:, index % 2], event_frames(events, size, 3))
    dataset[3] = (dataset[3][0][::-1], 3)
    with pytest.raises(InputError, match="recording 3: "):
        list(event_batches(dataset, size, 3, batch_size=2))


def test_real_recordings_lose_no_event():
    folder = data_folder("nmnist")
    if folder is None:
        pytest.skip("no nmnist data")
    recordings = load_recordings(folder, "test")
    counts, labels = summed(recordings)
    assert len(labels) == 100
    assert [int(image.sum()) for image in counts] == [len(recordings[i][0]) for i in range(100)]
    frames = torch.cat([frames for frames, _ in event_batches(recordings, SENSOR, 8)], 1)
    assert torch.equal(frames.sum(0), counts)


def test_frames_equal_those_of_tonic():
    transforms = pytest.importorskip("tonic.transforms")
    size, steps = (7, 4, 2), 5
    # slices of whole microseconds, so that both divide time at the same places; tonic drops the last event
    events = recording(400, size, 3)
    events["t"][0], events["t"][-1] = 5, 5 + 10_000
    ours = event_frames(events[:-1], size, steps)
    theirs = transforms.ToFrame(sensor_size=size, n_time_bins=steps)(events)
    moved = np.abs(ours.numpy() - theirs).sum() / 2
    assert theirs.sum() == ours.sum()
    assert moved <= steps
