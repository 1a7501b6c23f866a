"""The bootstrap where the answer is known."""

import math

import pytest
import torch

from snnconvert.tasks.bootstrap import drawn_counts, paired_bootstrap


def mean_of(values):
    return lambda counts: counts @ values / counts.sum(1)


def test_every_resample_draws_as_many_images_as_there_are():
    counts = drawn_counts(50, 200, seed=1)
    assert counts.shape == (200, 50)
    assert counts.sum(1).eq(50).all()
    assert counts.var(0).mean() == pytest.approx(1 - 1 / 50, rel=0.1)  # of a multinomial


def test_interval_of_means_is_the_normal_one_of_the_paired_differences():
    generator = torch.Generator().manual_seed(3)
    before = 2 + torch.randn(400, generator=generator, dtype=torch.float64)
    after = before + 0.1 + 0.5 * torch.randn(400, generator=generator, dtype=torch.float64)
    metric = paired_bootstrap(mean_of(before), mean_of(after), 400, resamples=4000)
    differences = after - before
    half = 1.96 * float(differences.std()) / math.sqrt(400)
    low, high = metric.difference_ci95
    assert metric.second - metric.first == pytest.approx(float(differences.mean()))
    assert low == pytest.approx(float(differences.mean()) - half, abs=0.1 * half)
    assert high == pytest.approx(float(differences.mean()) + half, abs=0.1 * half)


def test_relative_interval_is_that_of_the_ratio():
    values = torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    metric = paired_bootstrap(mean_of(values), mean_of(0.9 * values), 30)
    assert metric.relative_ci95 == pytest.approx((-0.1, -0.1))
    low, high = metric.difference_ci95
    assert low < high < 0


def test_draws_follow_the_seed():
    values = torch.arange(20, dtype=torch.float64)
    first, again, other = (
        paired_bootstrap(mean_of(values), mean_of(values.flip(0) + 1), 20, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_resamples_without_a_metric_are_left_out():
    values = torch.tensor([0.5, math.nan], dtype=torch.float64)

    def of_the_first(counts):
        return torch.where(counts[:, 0] > 0, values[0], values[1])

    metric = paired_bootstrap(of_the_first, lambda counts: 2 * of_the_first(counts), 2)
    assert metric.difference_ci95 == (0.5, 0.5)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        drawn_counts(0)
