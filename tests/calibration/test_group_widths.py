"""Widths that groups of channels share: against exhaustive search, and in whole networks."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.calibration.weights import channel_widths
from snnconvert.calibration.weights.channel_widths import best_widths, width_errors

SHARED_FIXTURE = [HealthCheck.function_scoped_fixture]
STEPS = 7


@pytest.fixture(params=["exact", "marginal"])
def solver(request, monkeypatch):
    monkeypatch.setattr(channel_widths, "_MOST_GROUPS", 0 if request.param == "marginal" else 512)
    return request.param


def tables(seed, channels, *, kind):
    """Errors at 1..8 bits: any, falling with the bits, or falling by less and less (convex)."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.rand(channels, STEPS + 1, generator=generator, dtype=torch.float64) ** 3
    if kind == "any":
        return errors
    steps = errors[:, :STEPS] if kind == "falling" else errors[:, :STEPS].sort(1, descending=True).values
    return torch.cat([steps.flip(1).cumsum(1).flip(1), torch.zeros(channels, 1, dtype=torch.float64)], 1)


def total(errors, widths):
    return sum(float(row[bits - 1]) for row, bits in zip(errors, widths, strict=True))


def least(errors, mean, group):
    """The least error of all widths that groups share and that keep the mean, by trying each."""
    channels = len(errors)
    sums = [errors[start : start + group].sum(0).tolist() for start in range(0, channels, group)]
    sizes = [min(group, channels - start) for start in range(0, channels, group)]
    return min(
        sum(row[bits - 1] for row, bits in zip(sums, widths, strict=True))
        for widths in itertools.product(range(1, 9), repeat=len(sums))
        if sum(size * bits for size, bits in zip(sizes, widths, strict=True)) <= mean * channels
    )


@st.composite
def few_groups(draw):
    """(channels, group) of up to three groups, the last of any size."""
    group = draw(st.integers(1, 5))
    return draw(st.integers(1, 3 * group)), group


@given(st.integers(0, 2**31), few_groups(), st.integers(1, 8), st.sampled_from(["any", "falling", "convex"]))
@settings(max_examples=60, deadline=None)
def test_errors_of_groups_are_minimized(seed, shape, mean, kind):
    channels, group = shape
    errors = tables(seed, channels, kind=kind)
    widths = best_widths(errors, mean, group).tolist()
    assert total(errors, widths) == pytest.approx(least(errors, mean, group), rel=1e-9, abs=1e-12)


@given(st.integers(0, 2**31), few_groups(), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_marginal_analysis_comes_within_one_step(seed, shape, mean):
    channels, group = shape
    errors = tables(seed, channels, kind="any")
    summed = torch.stack([part.sum(0) for part in errors.split(group)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_widths, "_MOST_GROUPS", 0)
        found = total(errors, best_widths(errors, mean, group).tolist())
    lowest, step = least(errors, mean, group), float((summed[:, 0] - summed.amin(1)).max())
    assert lowest - 1e-12 <= found <= lowest + max(step, 0) + 1e-12


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 12), st.integers(1, 8))
@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FIXTURE)
def test_channels_of_a_group_share_a_width_and_keep_the_mean(solver, seed, channels, group, mean):
    widths = best_widths(tables(seed, channels, kind="falling"), mean, group)
    assert widths.shape == (channels,)
    assert all(len(set(part.tolist())) == 1 for part in widths.split(group))
    assert mean * channels - 7 * group < int(widths.sum()) <= mean * channels
    assert 1 <= int(widths.min()) <= int(widths.max()) <= 8


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 10), st.integers(1, 8))
@settings(max_examples=40, deadline=None, suppress_health_check=SHARED_FIXTURE)
def test_a_group_of_all_channels_has_the_mean(solver, seed, channels, beyond, mean):
    errors = tables(seed, channels, kind="convex")
    assert best_widths(errors, mean, channels + beyond).tolist() == [mean] * channels


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_finer_groups_err_no_more(seed, channels, mean, group, factor):
    errors = tables(seed, channels, kind="any")
    by_channel, finer, coarser = (
        total(errors, best_widths(errors, mean, size).tolist()) for size in (1, group, group * factor)
    )
    by_layer = float(errors[:, mean - 1].sum())
    assert by_channel <= finer + 1e-12 <= coarser + 2e-12 <= by_layer + 3e-12


def test_large_layers_of_groups_come_close_to_the_exact_widths(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(603, 9, generator=generator) * torch.rand(603, 1, generator=generator)
    errors = width_errors(weight, torch.zeros(603), torch.ones(9).double())
    exact = total(errors, best_widths(errors, 3, 4).tolist())
    monkeypatch.setattr(channel_widths, "_MOST_GROUPS", 0)
    assert exact <= total(errors, best_widths(errors, 3, 4).tolist()) <= 1.01 * exact


class Layers(nn.Module):
    """Convolutions, one in groups and one transposed, and a linear layer, of channels that matter more and more."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.apart = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 16, 3, stride=2, groups=4)
        self.up, self.mix = nn.ConvTranspose2d(16, 12, 2, stride=2, groups=2), nn.Linear(12, 16)
        self.head = nn.Linear(16, 10)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter)
                parameter.data *= torch.logspace(-1, 0, len(parameter)).view(-1, *[1] * (parameter.dim() - 1))
        self.eval()

    def forward(self, x):
        x = torch.relu(self.up(torch.relu(self.apart(torch.relu(self.stem(x))))))
        return self.head(torch.relu(self.mix(x.mean((2, 3)))))


INNER = ("apart", "up", "mix")


def converted(granularity, group=16, **settings):
    """The converted network and images it wasn't calibrated on."""
    generator = torch.Generator().manual_seed(0)
    images, unseen = torch.randn(2, 24, 3, 8, 8, generator=generator)
    config = snnconvert.ConversionConfig(weight_bits=3, weight_granularity=granularity, weight_group=group, **settings)
    return snnconvert.convert(Layers(), images, config, progress=False), unseen


def widths_of(snn):
    return {name: synapse.widths for name, synapse in snn.synapses()}


@pytest.mark.parametrize(
    "settings", mostly_slow([{}, {"weight_rounding": "gptq"}, {"reconstruction_steps": 3}], keep=[{}])
)
def test_a_network_keeps_the_widths_of_its_groups(tmp_path, settings):
    snn, images = converted("group", 5, **settings)
    layers = {layer.name: layer for layer in snn.report.layers}
    for name, synapse in snn.synapses():
        widths = synapse.widths
        assert all(len(set(part.tolist())) == 1 for part in widths.split(5))
        assert (len(set(widths.tolist())) > 1) == (name in INNER)
        assert widths.double().mean() <= (3 if name in INNER else 8)
        assert layers[name].weight_bits == float(widths.double().mean())
        largest = (2 ** (widths.long() - 1) - 1).clamp(min=1)
        assert (synapse.weight.flatten(1).abs().amax(1) <= largest).all()
    bits = sum(int(synapse.widths.sum()) * synapse.weight[0].numel() for _, synapse in snn.synapses())
    assert snn.report.totals.weight_bytes == -(-bits // 8)
    assert torch.equal(snn.simulate(images[:4]).output, snn(images[:4]))
    snn.save(tmp_path / "out")
    loaded = snnconvert.load(tmp_path / "out")
    assert loaded.config == snn.config
    assert loaded.report == snn.report
    assert torch.equal(loaded(images), snn(images))
    assert all(torch.equal(own, widths_of(loaded)[name]) for name, own in widths_of(snn).items())


@pytest.mark.parametrize("settings", mostly_slow([{}, {"weight_rounding": "gptq"}], keep=[{}]))
@pytest.mark.parametrize(("group", "same"), mostly_slow([(1, "channel"), (16, "layer")], keep=[(1, "channel")]))
def test_groups_of_one_and_of_all_channels_are_the_other_granularities(group, same, settings):
    (grouped, images), (other, _) = converted("group", group, **settings), converted(same, **settings)
    assert all(torch.equal(own, widths_of(other)[name]) for name, own in widths_of(grouped).items())
    assert torch.equal(grouped(images), other(images))


def test_the_torch_engine_runs_groups_bit_for_bit():
    snn, images = converted("group", 5)
    assert torch.equal(snn.compile("torch")(images), snn(images))
