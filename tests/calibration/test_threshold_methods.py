"""The methods that choose thresholds, each against an oracle of its own: quadrature, brute force, autograd."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.api import prepare
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.thresholds.balanced import balanced_threshold
from snnconvert.calibration.thresholds.choice import Evidence, choose_threshold
from snnconvert.calibration.thresholds.entropy import least_divergence
from snnconvert.calibration.thresholds.fisher import gradient_weighted
from snnconvert.calibration.thresholds.gaussian import gaussian_mse, gaussian_threshold, moments, optimal_steps
from snnconvert.calibration.thresholds.mse import quantization_mse
from snnconvert.config import CHANNEL_METHODS, THRESHOLD_METHODS
from snnconvert.errors import ConfigurationError, ConversionError
from snnconvert.neurons.multithreshold import MultiThresholdCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.registry import make_code


@dataclasses.dataclass(frozen=True)
class Levels:
    """Integers a..b, as papers state quantizers."""

    minimum: int
    maximum: int

    @property
    def span(self):
        return self.maximum - self.minimum


def histogram_of(values):
    histogram = ValueHistogram()
    histogram.update(torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1000))
    return histogram


def error_of(values, threshold):
    u = values / threshold.step
    words = np.clip(np.rint(u), threshold.code.minimum, threshold.code.maximum)
    return float(np.square(values - threshold.step * words).mean())


def one_step(mean, deviation, levels):
    return float(optimal_steps(np.array([mean]), np.array([deviation]), levels)[0])


@pytest.mark.parametrize(
    ("mean", "levels", "span", "expected"),
    [
        (0.0, Levels(0, 4), 4, 2.135),
        (0.0, Levels(0, 15), 15, 2.899),
        (0.0, Levels(-7, 7), 7, 2.474),
        (-0.5, Levels(0, 15), 15, 2.571),
    ],
)
def test_gaussian_optima_as_published(mean, levels, span, expected):
    """θ = n·Δ of the fixed point of H-MT's Eq. 29."""
    assert one_step(mean, 1.0, levels) * span == pytest.approx(expected, abs=6e-4)
    assert one_step(8 * mean, 8.0, levels) * span == pytest.approx(8 * expected, abs=5e-3)


@given(st.floats(-3, 3), st.integers(1, 40), st.booleans())
@settings(max_examples=15, deadline=None)
def test_gaussian_error_is_the_integral(mean, largest, signed):
    levels, step = Levels(-largest if signed else 0, largest), 3.0 / largest

    def integrand(x):
        word = np.clip(np.floor(x / step + 0.5), levels.minimum, levels.maximum)
        return ((x if signed else np.maximum(x, 0)) - step * word) ** 2 * stats.norm.pdf(x, mean)

    x = np.linspace(mean - 12, mean + 12, 400_001)
    found = gaussian_mse(np.array([step]), np.array([mean]), np.array([1.0]), levels)[0]
    assert found == pytest.approx(integrate.trapezoid(integrand(x), x), rel=2e-4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.5])
def test_no_other_step_is_better_for_gaussian_values(bits, mean):
    levels = Levels(0, (1 << bits) - 1)
    best = one_step(mean, 1.0, levels)
    steps = best * np.linspace(0.5, 2, 301)
    errors = gaussian_mse(steps, np.full(301, mean), np.ones(301), levels)
    assert gaussian_mse(np.array([best]), np.array([mean]), np.ones(1), levels)[0] <= errors.min() * (1 + 1e-9)


def test_gaussian_moments_are_those_before_the_rectifier():
    x = np.random.default_rng(0).normal(-0.4, 2.0, 200_000)
    before, after = histogram_of(x), histogram_of(np.maximum(x, 0))
    mean, deviation = moments(before.bins())
    assert float(mean) == pytest.approx(-0.4, abs=0.02)
    assert float(deviation) == pytest.approx(2.0, rel=0.005)
    code = PackedCode(4, 1)
    chosen = choose_threshold(after, code, "gaussian", 99.9, evidence=Evidence(before=before))
    assert chosen.step == pytest.approx(choose_threshold(after, code, "mse", 99.9).step, rel=0.03)
    assert chosen.code.offset == 0


@pytest.mark.parametrize("mean", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("code", [PackedCode(4, 1), PackedCode(2, 4), MultiThresholdCode(3, 4)])
def test_gaussian_values_with_signs(mean, code):
    x = np.random.default_rng(1).normal(mean, 1.0, 200_000)
    histogram = histogram_of(x)
    chosen = choose_threshold(histogram, code, "gaussian", 99.9)
    best = choose_threshold(histogram, code, "mse", 99.9)
    assert quantization_mse(histogram, chosen) < 1.15 * quantization_mse(histogram, best)
    assert gaussian_threshold(0.0, 0.0, code, signed=True) is None


def test_balancing_follows_its_iteration_on_the_values():
    values = np.random.default_rng(2).exponential(1.0, 20_000)
    theta = 0.0
    for _ in range(2000):
        theta += np.maximum(values - theta, 0).mean()
    chosen = balanced_threshold(histogram_of(values).bins(), (0.0, values.max()), PackedCode(2, 4))
    assert chosen.step * 255 == pytest.approx(theta, rel=0.01)
    assert theta < 0.95 * values.max()


def test_balancing_ends():
    code = PackedCode(2, 4)
    constant = histogram_of(np.full(1000, 3.0))
    assert balanced_threshold(constant.bins(), constant.extremes, code).step * 255 == pytest.approx(3.0, rel=0.02)
    values = np.random.default_rng(3).normal(0.5, 1.0, 50_000)
    signed = histogram_of(values)
    chosen = balanced_threshold(signed.bins(), signed.extremes, code)
    assert chosen.step * 255 == pytest.approx(np.ptp(values) * 0.85, rel=0.15)
    mirrored = histogram_of(-values)
    other = balanced_threshold(mirrored.bins(), mirrored.extremes, code)
    assert other.step == pytest.approx(chosen.step, rel=0.02)
    assert other.code.offset == pytest.approx(255 - chosen.code.offset, abs=3)


def divergence(values, threshold, levels):
    """KL of the values' density on places a sixteenth of a level wide, computed from the values themselves."""
    high = threshold
    edges = np.linspace(0, high, 16 * levels + 1)
    p = np.histogram(np.minimum(values, high * (1 - 1e-12)), edges)[0].astype(float)
    kept = np.histogram(values[values < high], edges)[0].astype(float)
    q = np.zeros_like(p)
    for level in range(levels):
        part = slice(16 * level, 16 * level + 16)
        busy = kept[part] > 0
        q[part][busy] = kept[part].sum() / max(busy.sum(), 1)
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-9)
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def test_entropy_is_near_the_least_divergence_of_the_values():
    random = np.random.default_rng(4)
    values = np.concatenate([random.exponential(1.0, 199_000), random.uniform(10, 60, 1_000)])
    values = np.concatenate([values, np.zeros(100_000)])
    chosen = least_divergence(histogram_of(values).bins(), (0.0, 60.0), PackedCode(4, 1))
    positive = values[values > 0]
    ends = np.linspace(4, 60, 57)
    divergences = [divergence(positive, end, 16) for end in ends]
    assert divergence(positive, chosen.step * 15, 16) < 1.5 * min(divergences)
    assert chosen.step * 15 < 45


def test_entropy_keeps_a_uniform_distribution_whole():
    values = np.random.default_rng(5).uniform(0, 4, 100_000)
    histogram = histogram_of(values)
    assert least_divergence(histogram.bins(), histogram.extremes, PackedCode(4, 1)).step * 15 == pytest.approx(
        4, rel=0.05
    )


@pytest.mark.parametrize("method", THRESHOLD_METHODS)
@pytest.mark.parametrize("neuron", ["packed", "if", "ternary"])
def test_any_values_get_a_threshold(method, neuron):
    random = np.random.default_rng(6)
    code = make_code(neuron, 1, 6)
    for values in (
        np.zeros(1000),
        np.full(1000, 7.0),
        -np.abs(random.normal(size=3000)),
        np.where(random.random(10_000) < 0.999, 0.0, 1e5),
        random.standard_cauchy(10_000),
        random.normal(size=4000) * 1e-12,
    ):
        chosen = choose_threshold(histogram_of(values), code, method, 99.9)
        assert 0 < chosen.step < np.inf


@given(st.floats(1e-3, 1e3), st.sampled_from(THRESHOLD_METHODS), st.booleans())
@settings(max_examples=20, deadline=None)
def test_thresholds_scale_with_the_values(factor, method, signed):
    values = np.random.default_rng(7).normal(size=20_000)
    values = values if signed else np.maximum(values, 0)
    code = PackedCode(1, 4)
    plain = choose_threshold(histogram_of(values), code, method, 99.0)
    scaled = choose_threshold(histogram_of(values * factor), code, method, 99.0)
    assert scaled.step == pytest.approx(plain.step * factor, rel=0.2 if method == "entropy" else 0.05)


class Tail(nn.Module):
    """A layer whose second channel the output hardly reads."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 2, 3, padding=1), nn.Linear(2, 3)
        with torch.no_grad():
            self.head.weight[:, 1] *= 1e-3

    def forward(self, x):
        return self.head(F.relu(self.stem(x)).mean((2, 3)))


@functools.cache
def tail():
    torch.manual_seed(0)
    net, images = Tail().eval(), torch.randn(40, 3, 8, 8)
    return net, prepare(net, images[:2]), images


def test_gradient_weights_are_squared_jacobians():
    """The mean of many projections is Σ_j (∂y_j/∂x)², and the weights of a histogram add up to it."""
    net, prepared, images = tail()
    site = next(site for site in prepared.plan.sites if site.origin == "activation")
    totals = [gradient_weighted(prepared.graph, [[images[:4]]], {site.node: 0}, seed)[0][2].sum() for seed in range(30)]

    def behind(rectified):
        return net.head(rectified.mean((2, 3)))

    jacobian = torch.autograd.functional.jacobian(behind, torch.rand(4, 2, 8, 8))
    expected = 2 * float(jacobian.square().sum())  # two projections
    assert np.mean(totals) == pytest.approx(expected, rel=0.15)


def test_fisher_follows_what_the_output_reads():
    """A channel of rare large values that the output ignores widens the threshold of mse, not of fisher."""
    torch.manual_seed(1)
    net, images = Tail().eval(), torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        net.stem.weight[1] *= 30
    steps = {}
    for method in ("mse", "fisher"):
        snn = snnconvert.convert(
            net, images, snnconvert.ConversionConfig(bits=1, T=4, threshold=method), progress=False
        )
        steps[method] = next(float(neuron.step) for layer, neuron in snn.neurons() if layer != "x")
        assert snn.report.notes == ()
    assert steps["fisher"] < 0.3 * steps["mse"]


def test_fisher_is_the_same_in_any_order():
    torch.manual_seed(2)
    net, images = Tail().eval(), torch.randn(30, 3, 8, 8)
    config = snnconvert.ConversionConfig(bits=1, T=4, threshold="fisher")
    one = snnconvert.convert(net, images, config, progress=False)
    other = snnconvert.convert(net, list(images.flip(0).split(7)), config, progress=False)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


class Decided(Tail):
    def forward(self, x):
        return super().forward(x).argmax(1)


class Cut(Tail):
    def forward(self, x):
        return super().forward(torch.floor(self.stem(x).repeat(1, 2, 1, 1)[:, :3])) + self.head.bias


def test_fisher_without_gradients():
    images = torch.randn(8, 3, 8, 8)
    config = snnconvert.ConversionConfig(threshold="fisher")
    with pytest.raises(ConversionError, match="floating"):
        snnconvert.convert(Decided().eval(), images, config, progress=False)
    snn = snnconvert.convert(Cut().eval(), images, config, progress=False)
    assert any("no gradient" in note for note in snn.report.notes)


@pytest.mark.parametrize("method", mostly_slow(THRESHOLD_METHODS, keep=("mse", "entropy", "fisher")))
def test_methods_in_a_conversion_and_per_channel(method):
    _, _, images = tail()
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GELU(), nn.Conv2d(8, 4, 3)).eval()
    snn = snnconvert.convert(net, images, snnconvert.ConversionConfig(bits=2, T=4, threshold=method), progress=False)
    assert snn.report.fidelity.logit_sqnr_db > 25
    if method not in CHANNEL_METHODS:
        with pytest.raises(ConfigurationError, match="gaussian"):
            snnconvert.ConversionConfig(threshold=method, threshold_granularity="channel")
        return
    config = snnconvert.ConversionConfig(bits=2, T=4, threshold=method, threshold_granularity="channel")
    snn = snnconvert.convert(net, images, config, progress=False)
    assert snn.report.fidelity.logit_sqnr_db > 25
