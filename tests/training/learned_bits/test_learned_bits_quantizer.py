"""The quantizer and its gradients against the formulas, and against finite differences of what is smooth in it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.training.learned_bits.quantizer import (
    clamped_through,
    quantize,
    rounded_through,
    spike_levels,
    weight_levels,
)


def gradients(values, step, bits, levels, upstream):
    """dL/dx, dL/dγ and dL/db of L = Σ upstream·Q(x)."""
    leaves = [
        tensor.clone().requires_grad_() for tensor in (values, step, torch.tensor(float(bits), dtype=values.dtype))
    ]
    (quantize(*leaves, levels) * upstream).sum().backward()
    return [leaf.grad for leaf in leaves]


def signed_case(seed, bits, offset_share=0.0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(200, generator=generator, dtype=torch.float64) * 3
    upstream = torch.randn(200, generator=generator, dtype=torch.float64)
    return values, torch.tensor(0.37, dtype=torch.float64), upstream


def clipped(values, step, low, high):
    return step * (values / step).clamp(low, high)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", ["weights", "spikes", "offset"])
def test_gradient_of_bits_is_that_of_the_clip_bounds(bits, kind):
    values, step, upstream = signed_case(bits, bits)
    largest = (1 << bits) - 1
    share = 1 / 3 if kind == "offset" else 0.0
    offset = round(share * largest)
    levels = weight_levels(bits) if kind == "weights" else spike_levels(bits, offset / largest, offset)

    def loss(width):
        if kind == "weights":
            bound = 2 ** (width - 1) - 1
            return float((clipped(values, step, -bound, bound) * upstream).sum())
        bound = 2**width - 1
        low = -offset / largest * bound
        return float((clipped(values, step, low, bound + low) * upstream).sum())

    small = 1e-6
    expected = (loss(bits + small) - loss(bits - small)) / (2 * small)
    assert abs(expected) > 1e-3
    assert float(gradients(values, step, bits, levels, upstream)[2]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("levels", [weight_levels(3), spike_levels(3), spike_levels(4, 1 / 3, 5), weight_levels(1)])
def test_gradient_of_the_step_holds_the_rounding_and_scales_once(levels):
    values, step, upstream = signed_case(5, 3)
    fired = levels.nearest(values / step)
    inside = (values / step > levels.low) & (values / step < levels.high)
    residual = torch.where(inside, fired - values / step, 0.0)

    def loss(size):
        within = torch.where(inside, values / size + residual, fired)
        return float((size * within * upstream).sum())

    small = 1e-6
    expected = (loss(step + small) - loss(step - small)) / (2 * small)
    scale = 1 / math.sqrt(values.numel() * max(levels.high, -levels.low))
    assert float(gradients(values, step, 3, levels, upstream)[1]) == pytest.approx(expected * scale, rel=1e-5)


def test_gradient_of_values_passes_inside_the_range():
    values, step, upstream = signed_case(2, 3)
    inside = (values / step).abs() < 3
    assert torch.equal(gradients(values, step, 3, weight_levels(3), upstream)[0], upstream * inside)


def test_each_channel_has_the_gradient_of_its_own_step():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 40, generator=generator)
    upstream = torch.randn(3, 40, generator=generator)
    steps = torch.tensor([[0.1], [0.3], [0.9]])
    together = gradients(values, steps, 3, weight_levels(3), upstream)
    for channel in range(3):
        alone = gradients(values[channel], steps[channel], 3, weight_levels(3), upstream[channel])
        torch.testing.assert_close(together[1][channel], alone[1])
    sums = [float(gradients(values[c], steps[c], 3, weight_levels(3), upstream[c])[2]) for c in range(3)]
    assert float(together[2]) == pytest.approx(sum(sums), rel=1e-5)


@given(st.integers(1, 8), st.floats(0.01, 3.0), st.integers(0, 2**32 - 1))
def test_values_come_to_the_nearest_multiple_in_range(bits, step, seed):
    values = torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4
    levels = spike_levels(bits)
    out = quantize(values, torch.tensor(step, dtype=torch.float64), torch.tensor(float(bits)), levels)
    counts = out / step
    assert torch.allclose(counts, counts.round())
    assert float(counts.min()) >= 0
    assert float(counts.max()) <= 2**bits - 1 + 1e-9
    within = values.clamp(0, (2**bits - 1) * step)
    assert float((out - within).abs().max()) <= step / 2 + 1e-9


def test_one_bit_weights_are_signs():
    values = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0])
    out = quantize(values, torch.tensor(0.5), torch.tensor(1.0), weight_levels(1))
    assert out.tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5]


def test_halves_round_as_the_neurons_round_them():
    halves = torch.tensor([0.5, 1.5, 2.5])
    assert spike_levels(3).nearest(halves).tolist() == [0, 2, 2]
    assert spike_levels(3, half_up=True).nearest(halves).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("value", "expected"), [(0.2, 1), (2.4, 2), (-2.6, 3), (9.0, 6)])
def test_widths_round_and_clamp_with_the_gradient_of_their_size(value, expected):
    width = torch.tensor(value, requires_grad=True)
    used = rounded_through(clamped_through(width, 1.0, 6.0))
    used.backward()
    assert float(used.detach()) == expected
    assert float(width.grad) == math.copysign(1.0, value)
