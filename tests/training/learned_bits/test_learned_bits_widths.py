"""Searched steps, settled widths, and toy problems whose best widths are known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.training.learned_bits.quantizer import quantize, spike_levels, weight_levels
from snnconvert.training.learned_bits.renewal import is_near, searched_step
from snnconvert.training.learned_bits.width import Width, settled_widths


def score(values, step, levels):
    return (levels.nearest(values / step) * step - values).abs().pow(2.4).mean()


@pytest.mark.parametrize("levels", [weight_levels(3), weight_levels(1), spike_levels(2), spike_levels(3, 3 / 7, 3)])
def test_the_step_has_the_least_score_of_all_ranges(levels):
    values = torch.randn(2, 500, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [5.0]])
    values = values.abs() if levels.low == 0 else values
    found = searched_step(values, levels, 50)
    for row, step in zip(values, found, strict=True):
        symmetric = levels.low == -levels.high
        extent = row.abs().max() if symmetric else row.max() - row.min()
        span = levels.high if symmetric else levels.high - levels.low
        scores = torch.stack([score(row, extent * i / 50 / span, levels) for i in range(1, 51)])
        assert float(score(row, step, levels)) == pytest.approx(float(scores.min()), rel=1e-5)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_after_a_change_of_width_a_searched_step_beats_the_old_one_however_scaled(before, after):
    values = torch.randn(1, 4000, generator=torch.Generator().manual_seed(2)).abs()
    old, levels = searched_step(values, spike_levels(before), 100), spike_levels(after)
    ratio = (2**after - 1) / (2**before - 1)
    renewed = score(values, searched_step(values, levels, 100), levels)
    for other in (old, old * ratio, old / ratio):
        assert renewed <= score(values, other, levels) * 1.001
    assert renewed < 0.9 * score(values, old, levels)


def test_near_is_a_share_of_the_way():
    assert is_near(3.2, 3.0, 4.0, 0.24)
    assert not is_near(3.3, 3.0, 4.0, 0.24)
    assert is_near(2.9, 3.0, 2.0, 0.24)


widths = st.lists(st.tuples(st.floats(1, 8), st.floats(0.01, 1)), min_size=1, max_size=12)


@given(widths, st.floats(1, 8))
def test_settled_widths_keep_the_target_and_use_what_room_they_can(items, target):
    values, total = [value for value, _ in items], sum(share for _, share in items)
    shares = [share / total for _, share in items]
    found = settled_widths(values, shares, target, [8] * len(values))
    mean = sum(width * share for width, share in zip(found, shares, strict=True))
    assert mean <= target + 1e-6
    assert all(1 <= width <= 8 for width in found)
    assert all(width <= value + 1 for width, value in zip(found, values, strict=True))


def test_widths_that_fit_stay_and_the_least_wanted_bit_goes_first():
    assert settled_widths([3.1, 2.2], [0.5, 0.5], 2.5, [8, 8]) == [3, 2]
    assert settled_widths([3.1, 2.6], [0.5, 0.5], 2.5, [8, 8]) == [3, 2]
    assert settled_widths([2.9, 2.4, 2.6], [0.5, 0.25, 0.25], 2.5, [8, 8, 8]) == [3, 2, 2]


def test_learning_gives_the_bits_to_the_values_that_need_them():
    """Values 0..7 and 0..1 at a step of 1 are exact at 3 bits and 1 bit: the best widths of mean 2."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randint(0, high, (400,), generator=generator).float() for high in (8, 2)]
    learned = [Width(2, 4, learned=True) for _ in values]
    optimizer = torch.optim.SGD([width.value for width in learned], lr=0.1)
    for _ in range(200):
        outputs = [
            quantize(x, torch.ones(()), width(), spike_levels(width.rounded))
            for x, width in zip(values, learned, strict=True)
        ]
        error = sum(((out - x) ** 2).mean() for out, x in zip(outputs, values, strict=True))
        mean = torch.stack([width() for width in learned]).mean()
        optimizer.zero_grad()
        (error + 0.1 * (mean - 2).abs()).backward()
        optimizer.step()
        for width in learned:
            width.confine()
    assert settled_widths([float(width.value.detach()) for width in learned], [0.5, 0.5], 2.0, [4, 4]) == [3, 1]


def test_weights_of_a_coarse_grid_give_up_their_bits():
    """Weights that are −1, 0 and 1 need 2 bits, those of a finer grid up to 7 need 4: mean 3."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randint(-top, top + 1, (400,), generator=generator).float() for top in (1, 7)]
    learned = [Width(3, 5, learned=True) for _ in values]
    optimizer = torch.optim.SGD([width.value for width in learned], lr=0.1)
    for _ in range(200):
        outputs = [
            quantize(x, torch.ones(()), width(), weight_levels(width.rounded))
            for x, width in zip(values, learned, strict=True)
        ]
        error = sum(((out - x) ** 2).mean() for out, x in zip(outputs, values, strict=True))
        mean = torch.stack([width() for width in learned]).mean()
        optimizer.zero_grad()
        (error + 0.1 * (mean - 3).abs()).backward()
        optimizer.step()
        for width in learned:
            width.confine()
    assert settled_widths([float(width.value.detach()) for width in learned], [0.5, 0.5], 3.0, [5, 5]) == [2, 4]
