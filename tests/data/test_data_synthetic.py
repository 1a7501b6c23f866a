import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.data.synthetic import dead_leaves


def images(count, size, seed=0):
    return dead_leaves(count, size, torch.Generator().manual_seed(seed))


@given(st.integers(1, 3), st.sampled_from([1, 3, 4]), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_pixels_of_any_size_lie_between_0_and_1(count, channels, height, width, seed):
    made = images(count, (channels, height, width), seed)
    assert made.shape == (count, channels, height, width)
    assert made.dtype == torch.float32
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1


def test_the_seed_decides():
    assert torch.equal(images(3, (3, 16, 16)), images(3, (3, 16, 16)))
    assert not torch.equal(images(3, (3, 16, 16)), images(3, (3, 16, 16), 1))


def test_neighbours_and_channels_go_together_as_in_photographs():
    made = images(8, (3, 48, 48))
    centred = made - made.mean()
    variance = centred.square().mean()
    beside = (centred[..., 1:] * centred[..., :-1]).mean() / variance
    apart = (centred[..., 24:] * centred[..., :-24]).mean() / variance
    between = (centred[:, 0] * centred[:, 1]).mean() / variance
    assert 0.7 < beside < 0.99
    assert apart < beside - 0.3
    assert between > 0.6


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 64, 48)])
def test_brightness_and_contrast_are_those_of_photographs(size):
    made = images(8, size)
    assert float(made.mean()) == pytest.approx(0.45, abs=0.1)
    assert 0.15 < float(made.std()) < 0.35
