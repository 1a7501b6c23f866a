import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.data.scene_shapes import SHAPES, Shape
from snnconvert.data.scene_textures import smooth_field, surface
from snnconvert.data.scenes import SCENE_CLASSES, Scenes
from snnconvert.errors import InputError

FIELDS = ("image", "boxes", "labels", "mask", "instances")


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


@given(st.integers(0, 10_000), st.integers(0, 99), st.sampled_from([32, 57, 128]))
@settings(max_examples=40, deadline=None)
def test_truth_of_any_scene_is_consistent(index, seed, size):
    scene = Scenes(10_001, size, seed)[index]
    assert scene.image.shape == (3, size, size)
    assert scene.image.dtype == torch.float32
    assert 0 <= float(scene.image.min()) <= float(scene.image.max()) <= 1
    assert scene.boxes.shape == (len(scene.labels), 4)
    assert torch.equal(scene.mask == 0, scene.instances == 0)
    assert set(scene.instances.unique().tolist()) - {0} == set(range(1, len(scene.labels) + 1))
    for number, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True), start=1):
        mine = scene.instances == number
        assert set(scene.mask[mine].tolist()) == {int(label)}
        x1, y1, x2, y2 = (int(edge) for edge in box)
        inside = mine[y1:y2, x1:x2]
        # tight: nothing of the shape outside of the box, something of it in the first and last row and column
        assert int(inside.sum()) == int(mine.sum())
        assert all(bool(edge.any()) for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_scene_depends_on_seed_and_index_alone():
    scenes = Scenes(20, 64, 5)
    forwards = list(scenes)
    assert all(same(scenes[index], forwards[index]) for index in (19, 3, 11, 3))
    assert same(scenes[-1], forwards[19])
    assert all(same(one, other) for one, other in zip(Scenes(3, 64, 5), forwards, strict=False))
    assert not same(Scenes(20, 64, 6)[0], forwards[0])
    assert not same(forwards[0], forwards[1])
    assert torch.equal(scenes.images(), torch.stack([scene.image for scene in forwards]))


def test_classes_are_balanced_and_scenes_varied():
    scenes = list(Scenes(150, 64, 0))
    labels = torch.bincount(torch.cat([scene.labels for scene in scenes]), minlength=len(SCENE_CLASSES))
    assert labels[0] == 0
    shares = labels[1:] / labels.sum()
    assert bool(((shares > 0.18) & (shares < 0.32)).all())
    assert {len(scene.labels) for scene in scenes} >= {2, 3, 4, 5, 6}
    sides = torch.cat([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in scenes]).amax(1)
    assert float(sides.min()) < 12
    assert float(sides.max()) > 28
    brightness = torch.stack([scene.image.mean() for scene in scenes])
    assert float(brightness.std()) > 0.1
    covered = torch.stack([(scene.mask > 0).float().mean() for scene in scenes])
    assert 0.15 < float(covered.mean()) < 0.45


@given(
    st.sampled_from(SHAPES),
    st.floats(6, 14),
    st.floats(0, 7),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
@settings(max_examples=60, deadline=None)
def test_every_shape_has_the_area_of_its_circle(kind, radius, angle, x, y):
    shape = Shape(kind, 32 + x, 32 + y, radius, angle)
    covered = shape.coverage(64)
    assert float(covered.sum()) == pytest.approx(math.pi * radius**2, rel=0.04)
    # the centre of mass is the centre: all four have a rotation that maps them to themselves
    weights = covered / covered.sum()
    centres = np.arange(64) + 0.5
    assert float((weights.sum(0) * centres).sum()) == pytest.approx(32 + x, abs=0.3)
    assert float((weights.sum(1) * centres).sum()) == pytest.approx(32 + y, abs=0.3)


@pytest.mark.parametrize(("kind", "corners"), [("square", 4), ("triangle", 3), ("star", 5)])
def test_shapes_have_their_corners(kind, corners):
    covered = Shape(kind, 64, 64, 30, 0.3).coverage(128) >= 0.5
    reach = []
    for angle in np.arange(360) * math.pi / 180:
        ray = [covered[int(64 + r * math.sin(angle)), int(64 + r * math.cos(angle))] for r in range(60)]
        reach.append(max(r for r, inside in enumerate(ray) if inside))
    profile = np.abs(np.fft.rfft(np.array(reach) - np.mean(reach)))
    assert int(profile[1:12].argmax()) + 1 == corners


def test_smooth_fields_and_surfaces():
    rng = np.random.default_rng(0)
    gradient = smooth_field(rng, 33, 2, 3)
    assert gradient.shape == (3, 33, 33)
    assert np.abs(gradient).max() <= 1
    assert np.allclose(np.diff(gradient, 2, axis=1), 0)
    assert np.allclose(np.diff(gradient, 2, axis=2), 0)
    behind = np.full(3, 0.5)
    contrast = [np.abs(surface(rng, 16, behind).mean((1, 2)) - behind).sum() for _ in range(100)]
    assert np.quantile(contrast, 0.05) > 0.35


@pytest.mark.parametrize(("arguments", "word"), [((0,), "count"), ((1, 31), "size"), ((1, 64, -1), "seed")])
def test_bad_arguments(arguments, word):
    with pytest.raises(InputError, match=word):
        Scenes(*arguments)


def test_no_scene_beyond_the_last():
    with pytest.raises(IndexError, match="no number 3"):
        Scenes(3)[3]
