import collections

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from snnconvert.data.digits import digits_preprocessing, digits_split, load_digits_arrays
from snnconvert.data.images import digits_images, sample_photographs
from snnconvert.data.photographs import PhotographCrops
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.errors import InputError

POSITIONS = np.stack(np.meshgrid(np.arange(50), np.arange(40), [7], indexing="ij"), -1)[:, :, 0].astype(np.uint8)


@given(seed=st.integers(0, 2**40), index=st.integers(0, 10_000))
def test_crops_are_squares_of_the_photograph(seed, index):
    pre = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
    crop = PhotographCrops([POSITIONS], 10_001, pre, seed).crop(index).astype(int)
    side = len(crop)
    assert crop.shape == (side, side, 3)
    assert 0.35 * 40 - 1 <= side <= 40
    rows, columns = crop[:, :, 0], crop[:, :, 1]
    assert (np.diff(rows, axis=0) == 1).all()
    assert (np.abs(np.diff(columns, axis=1)) == 1).all()
    assert (np.diff(columns, axis=1) == np.diff(columns, axis=1)[0, 0]).all()


def test_crops_vary_in_place_scale_and_direction(preprocessing):
    crops = [PhotographCrops([POSITIONS], 64, preprocessing, 0).crop(index).astype(int) for index in range(64)]
    assert len({len(crop) for crop in crops}) > 10
    assert len({tuple(crop[0, 0]) for crop in crops}) > 30
    assert {np.sign(crop[0, 1, 1] - crop[0, 0, 1]) for crop in crops} == {-1, 1}


def test_photographs(preprocessing):
    sets = sample_photographs(preprocessing, calibration_images=5, evaluation_images=7, seed=2)
    again = sample_photographs(preprocessing, calibration_images=50, evaluation_images=7, seed=2)
    other = sample_photographs(preprocessing, calibration_images=5, evaluation_images=7, seed=3)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (5, 7, False)
    assert "scikit-learn" in sets.description
    for index in reversed(range(5)):
        image, label = sets.calibration[index]
        assert (image.shape, image.dtype, label) == ((3, 16, 16), torch.float32, -1)
        assert torch.equal(image, again.calibration[index][0])
        assert not torch.equal(image, other.calibration[index][0])
    with pytest.raises(IndexError):
        sets.evaluation[7]


def test_photograph_halves_share_no_pixel(monkeypatch, preprocessing):
    sides = []
    for photograph in load_sample_images().images:
        sides.append(np.zeros_like(photograph))
        sides[-1][:, photograph.shape[1] // 2 :] = 255
    monkeypatch.setattr("snnconvert.data.photographs.load_sample_images", lambda: type("Bunch", (), {"images": sides}))
    sets = sample_photographs(preprocessing, calibration_images=20, evaluation_images=20)
    assert {int(v) for i in range(20) for v in np.unique(sets.calibration.crop(i))} == {0}
    assert {int(v) for i in range(20) for v in np.unique(sets.evaluation.crop(i))} == {255}


@pytest.mark.parametrize("make", [sample_photographs, digits_images])
@pytest.mark.parametrize("argument", ["calibration_images", "evaluation_images"])
def test_counts_out_of_range(make, argument, preprocessing):
    with pytest.raises(InputError, match=argument):
        make(preprocessing, **{argument: 0})


def test_digits_split_is_fixed_and_stratified():
    images, labels = load_digits_arrays()
    training, held_out = digits_split(labels)
    assert (len(training), len(held_out)) == (1257, 540)
    assert sorted([*training, *held_out]) == list(range(1797))
    assert held_out[:5] == digits_split(labels)[1][:5]
    for label, count in collections.Counter(labels[list(held_out)].tolist()).items():
        assert abs(count - 540 * (labels == label).mean()) < 1
    assert (images.min(), images.max(), images.dtype) == (0.0, 1.0, np.float32)


def test_digits():
    images, labels = load_digits_arrays()
    pre = digits_preprocessing()
    sets = digits_images(pre, calibration_images=100)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (100, 540, True)
    image, label = sets.evaluation[3]
    position = digits_split(labels)[1][3]
    assert label == labels[position]
    torch.testing.assert_close(image, (torch.tensor(images[position])[None] - pre.mean[0]) / pre.std[0])
    calibration = {sets.calibration[i][0].numpy().tobytes() for i in range(100)}
    assert not calibration & {sets.evaluation[i][0].numpy().tobytes() for i in range(540)}


def test_digits_are_normalized():
    sets = digits_images(digits_preprocessing(), calibration_images=2000)
    assert len(sets.calibration) == 1257
    pixels = torch.stack([sets.calibration[index][0] for index in range(1257)])
    assert abs(float(pixels.mean())) < 1e-3
    assert abs(float(pixels.std()) - 1) < 1e-3


def test_some_digits(preprocessing):
    sets = digits_images(preprocessing, evaluation_images=10, seed=1)
    assert len(sets.evaluation) == 10
    assert sets.evaluation[0][0].shape == (3, 16, 16)
