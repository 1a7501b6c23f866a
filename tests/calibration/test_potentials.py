"""Initial potentials against means by hand, and what they are worth on images of one layout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.calibration.potentials import neuron_shift
from snnconvert.errors import ConfigurationError

FEW_BITS = {"bits": 1, "T": 2, "weight_bits": 3}


class Branches(nn.Module):
    """A normalization neurons take over, a sum with a shortcut, a pool, a cap and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.norm, self.mix, self.head = nn.BatchNorm2d(8), nn.Linear(8, 16), nn.Linear(16, 5)
        nn.init.uniform_(self.norm.bias, -0.5, 0.5)
        self.eval()

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.norm(self.one(x) + x))
        x = F.relu6(self.two(F.max_pool2d(x, 2)) * 2)
        return self.head(F.relu(self.mix(x.mean((2, 3)))))


def images(count, seed=0, *, own=0.3):
    """One layout, and so much of an image's own."""
    layout = torch.randn(1, 3, 10, 10, generator=torch.Generator().manual_seed(99))
    return layout + own * torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(seed))


def converted(net, sample, **fields):
    return snnconvert.convert(net, sample, snnconvert.ConversionConfig(**fields), progress=False)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 3), st.floats(0.1, 50))
@settings(max_examples=50, deadline=None)
def test_shifts_are_significant_means_by_numpy(seed, count, windows, spread):
    generator = torch.Generator().manual_seed(seed)
    differences = spread * torch.randn(count * windows, 4, 3, generator=generator, dtype=torch.float64) + 10
    each = differences.numpy().reshape(count, windows, 4, 3).mean(1)
    if count == 1:
        expected = np.zeros((4, 3))
    else:
        mean, error = each.mean(0), each.std(0, ddof=1) / count**0.5
        expected = np.where(np.abs(mean) > 2 * error, np.rint(mean), 0)
    np.testing.assert_array_equal(neuron_shift(differences, count)[0].numpy(), expected)


def test_the_first_neurons_start_at_the_mean_of_what_their_layer_lost():
    net, sample = Branches(), images(40)
    before, after = (converted(net, sample, **FEW_BITS, potential_correction=value) for value in (False, True))
    (_, entering), (_, neuron) = list(before.neurons())[:2]
    synapse = dict(before.synapses())["stem"]
    with torch.no_grad():
        lost = net.stem(sample).double() / synapse.unit.view(-1, 1, 1) - synapse(entering(sample)).double()
    error = lost.std(0) / 40**0.5
    expected = torch.where(lost.mean(0).abs() > 2 * error, lost.mean(0).round(), 0.0)
    assert neuron.bias is None
    started = list(after.neurons())[1][1].bias
    assert started.shape == (1, 8, 8, 8)
    assert expected.count_nonzero() > 50
    assert torch.allclose(started[0].double(), expected)


@pytest.mark.parametrize("fields", mostly_slow([{}, {"weight_rounding": "gptq"}], keep=[{}]))
def test_both_engines_and_a_saved_network_agree(tmp_path, fields):
    net, sample = Branches(), images(24)
    snn = converted(net, sample, **FEW_BITS, **fields, potential_correction=True)
    own = [neuron for _, neuron in snn.neurons() if neuron.bias is not None and neuron.bias[0, 0].numel() > 1]
    assert len(own) >= 3
    run = snn.simulate(sample[:6])
    assert torch.equal(run.output, snn(sample[:6]))
    snn.save(tmp_path / "out")
    loaded = snnconvert.load(tmp_path / "out")
    assert loaded.config.potential_correction
    assert torch.equal(loaded(sample), snn(sample))
    assert torch.equal(loaded.simulate(sample[:6]).output, run.output)
    assert any("start at potentials of their own" in note for note in snn.report.notes)


def chain():
    """Convolutions, and a linear layer that sees every place of them."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 5)).eval()


def test_images_of_one_layout_gain():
    """The biases behind corrected neurons are corrected after them, or the gain is lost."""
    net, unseen = chain(), images(128, 1)
    errors = []
    for value in (False, True):
        settings = {"bits": 2, "T": 4, "weight_bits": 4, "potential_correction": value}
        snn = converted(net, images(64), **settings)
        again = converted(net, images(64).flip(0).split(9), **settings)
        with torch.no_grad():
            errors.append(float((net(unseen) - snn(unseen)).square().sum()))
            assert torch.equal(snn(unseen), again(unseen))
    assert errors[1] < 0.75 * errors[0]


def test_one_image_changes_nothing():
    net, sample = Branches(), images(1)
    plain, asked = (converted(net, sample, **FEW_BITS, potential_correction=value) for value in (False, True))
    assert torch.equal(plain(images(8, 2)), asked(images(8, 2)))
    assert "0 neurons start at potentials of their own" in asked.report.notes


def test_rate_codes_are_left_as_they_are():
    net, sample = Branches(), images(8)
    fields = {"neuron": "if", "bits": 1, "T": 4}
    plain, asked = (converted(net, sample, **fields, potential_correction=value) for value in (False, True))
    assert torch.equal(plain(sample), asked(sample))
    assert "no initial potentials: they need packed neurons throughout" in asked.report.notes


def test_networks_of_any_size_are_refused():
    with pytest.raises(ConfigurationError, match=r"potential_correction .* without dynamic_sizes"):
        snnconvert.ConversionConfig(potential_correction=True, dynamic_sizes=True)


def test_it_excludes_training():
    with pytest.raises(ConfigurationError, match="potential_correction and reconstruction_steps exclude each other"):
        snnconvert.ConversionConfig(potential_correction=True, reconstruction_steps=1)


@pytest.mark.parametrize("wrong", ["no", 1, None])
def test_it_must_be_a_boolean(wrong):
    with pytest.raises(ConfigurationError, match="potential_correction"):
        snnconvert.ConversionConfig(potential_correction=wrong)
