"""Perturbations against modules whose own weights are changed, and the twin against the spiking network."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from allocation_networks import PLAIN, Attention, Offset, Residual, laboratory, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow

import snnconvert
from snnconvert.allocation.choices import Choices
from snnconvert.allocation.groups import bits_price
from snnconvert.allocation.interpolate import completed
from snnconvert.allocation.problem import Solution
from snnconvert.allocation.sensitivity import corrected, measured_sensitivity
from snnconvert.allocation.solve import least_error
from snnconvert.allocation.twin import Branch, Quantization, floating_outputs, quantized, relative_error
from snnconvert.convert.channels import SpikeChannels
from snnconvert.convert.plan import Site
from snnconvert.convert.planner import make_plan
from snnconvert.convert.weights import natural_scale, quantize
from snnconvert.finishing import finish
from snnconvert.neurons.threshold import Threshold

FEW = Choices(word_bits=(2, 4, 7), weight_bits=(1, 4, 6), T=4)


@pytest.fixture(scope="module", params=[Residual, Attention])
def lab(request):
    return laboratory(request.param, choices=FEW)[0]


def named_index(groups, name):
    return [layer.name for layer in groups.layers].index(name)


def test_a_layer_whose_weights_alone_are_quantized_changes_the_output_as_in_the_module():
    lab, _, _ = laboratory(Residual, choices=FEW)
    found = measured_sensitivity(lab)
    network = seeded(Residual)
    (sample,) = lab.sample
    with torch.no_grad():
        expected = network(sample)
        for name, layer in network.named_children():
            for place, bits in enumerate(FEW.weight_bits):
                changed = copy.deepcopy(network)
                scale = natural_scale(layer.weight, layer.bias, bits)
                integers = quantize(layer.weight, scale, bits).double()
                real = integers * scale.view(-1, *[1] * (integers.dim() - 1))
                changed.get_submodule(name).weight.copy_(real)
                wanted = float((changed(sample) - expected).square().sum() / expected.square().sum())
                assert found.weights[named_index(lab.groups, name)][place] == pytest.approx(wanted, rel=1e-3)


def test_words_alone_change_the_output_as_in_the_module():
    lab, prepared, _ = laboratory(Residual, choices=FEW)
    found = measured_sensitivity(lab)
    group = lab.groups.layers[named_index(lab.groups, "two")].group
    (family,) = lab.groups.words[group].families
    network, (sample,) = seeded(Residual), lab.sample
    (site,) = [site for site in prepared.plan.sites if site.family == family]
    with torch.no_grad():
        x = torch.relu(network.stem(sample))
        inner = torch.relu(network.one(x))
        expected = network(sample)
        for place, option in enumerate(FEW.word_bits):
            threshold = lab.words(group, option).thresholds[site.family]
            words = (inner.double() / threshold.step).round().clamp(0, 2**option - 1)
            rest = torch.relu(network.two((words * threshold.step).float()) + network.shortcut(x))
            wanted = (network.head(rest.mean((2, 3))) - expected).square().sum() / expected.square().sum()
            assert found.words[group][place] == pytest.approx(float(wanted), rel=1e-2)


def test_a_run_from_the_middle_is_a_run_from_the_start(lab):
    everything = [lab.words(index, group.options[0]) for index, group in enumerate(lab.groups.words)]
    everything += [lab.weights(index, 2) for index in range(len(lab.groups.layers))]
    base = lab.words(0, lab.groups.words[0].options[-1])
    branches = [Branch(lab.twin.start_of(change), base.changed(change)) for change in everything]
    assert len({branch.start for branch in branches}) > 3
    runs = dict(lab.twin.branches(lab.sample, base, branches))
    assert set(runs) == set(range(len(branches)))
    for index, change in enumerate(everything):
        whole = lab.twin.run_from_start(lab.sample, base.changed(change))
        assert all(torch.equal(a, b) for a, b in zip(runs[index], whole, strict=True))


def test_without_quantization_the_twin_is_the_ann(lab):
    outputs = lab.twin.run_from_start(lab.sample, Quantization())
    assert relative_error(lab.reference, outputs) < 1e-10


@pytest.mark.parametrize(
    ("kind", "told"),
    mostly_slow(
        [
            (Residual, {}),
            (Residual, {"bias_correction": True}),
            (Residual, {"threshold_granularity": "channel"}),
            (Residual, {"threshold_granularity": "smoothed", "bias_correction": True}),
            (Attention, {}),
            (Attention, {"attention_code": "log2", "bias_correction": True}),
            (Attention, {"threshold_granularity": "channel"}),
            (Attention, {"threshold_granularity": "channel", "channel_shift": True}),
            (Offset, {"threshold_granularity": "channel", "channel_shift": True}),
        ],
        keep=[
            (Residual, {"bias_correction": True}),
            (Residual, {"threshold_granularity": "channel"}),
            (Attention, {"attention_code": "log2", "bias_correction": True}),
            (Offset, {"threshold_granularity": "channel", "channel_shift": True}),
        ],
    ),
)
def test_the_twin_with_everything_quantized_is_the_spiking_network(kind, told):
    config = dataclasses.replace(PLAIN, **{"bias_correction": False, **told})
    lab, prepared, statistics = laboratory(kind, config, Choices(T=4), count=64)
    words = tuple(group.options.index(5) if not group.kept else 0 for group in lab.groups.words)
    weight_bits = 8 if told.get("threshold_granularity") == "channel" else 4  # rounded with steps of another width
    weights = tuple(layer.options.index(weight_bits) for layer in lab.groups.layers)
    solution = Solution(words, weights, 0.0, 0.0)
    overridden = dataclasses.replace(config, overrides=lab.groups.overrides(solution))
    snn = finish(
        dataclasses.replace(prepared, config=overridden, plan=make_plan(prepared.graph, overridden)), statistics
    )
    real = floating_outputs(snn.network(*lab.sample))
    twin = lab.twin.run_from_start(lab.sample, lab.of_solution(solution))
    error = relative_error(lab.reference, real)
    assert error > 1e-5
    assert relative_error(real, twin) < 0.9 * error  # two unrelated errors of this size would differ by twice it
    assert relative_error(lab.reference, twin) == pytest.approx(error, rel=0.5)


def test_gptq_roundings_disturb_less_than_the_nearest():
    nearest, _, _ = laboratory(Residual, PLAIN, FEW, count=64)
    learned, _, _ = laboratory(Residual, dataclasses.replace(PLAIN, weight_rounding="gptq"), FEW, count=64)
    plain, better = (measured_sensitivity(it) for it in (nearest, learned))
    ratios = [b[0] / a[0] for a, b in zip(plain.weights, better.weights, strict=True)]
    assert np.exp(np.mean(np.log(ratios))) < 0.9


def test_outputs_count_alike_whatever_their_energy():
    small, large = torch.ones(3, 2), torch.full((3, 4), 1e3)
    both = relative_error([small, large], [small * 1.1, large * 1.1])
    assert both == pytest.approx(0.01, rel=1e-4)
    assert relative_error([small, large], [small * 1.1, large]) == pytest.approx(0.005, rel=1e-4)
    assert relative_error([small], [small * torch.nan]) == 1e6
    assert relative_error([torch.zeros(2)], [small]) == 0.0


def test_shares_of_ones_are_those_of_the_words():
    lab, _, _ = laboratory(Residual, choices=FEW)
    group = lab.groups.layers[named_index(lab.groups, "two")].group
    (family,) = lab.groups.words[group].families
    network, (sample,) = seeded(Residual), lab.sample
    with torch.no_grad():
        inner = torch.relu(network.one(torch.relu(network.stem(sample))))
    for option in FEW.word_bits:
        step = lab.words(group, option).thresholds[family].step
        words = (inner / step).round().clamp(0, 2**option - 1).long()
        ones = sum(((words >> bit) & 1).sum() for bit in range(option))
        assert lab.set_bits[family, option] == pytest.approx(float(ones) / (words.numel() * option), rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(1, 8), st.floats(-18, 2), min_size=1))
def test_completed_errors_never_rise_and_keep_what_was_measured(logs):
    measured = {width: 10.0**power for width, power in logs.items()}
    found = completed(measured, range(1, 9))
    assert (np.diff(found) <= 0).all()
    falling = all(measured[a] >= measured[b] for a in measured for b in measured if a < b)
    for width, error in measured.items():
        if falling:
            assert found[width - 1] == pytest.approx(error, rel=1e-9)


def test_a_quantizers_law_is_completed_exactly():
    found = completed({3: 4.0**-3, 6: 4.0**-6}, range(1, 9))
    assert found == pytest.approx([4.0**-width for width in range(1, 9)])


def test_corrected_sensitivities_are_scaled_by_twice_at_most(lab):
    first = measured_sensitivity(lab)
    problem = lab.groups.problem(first.words, first.weights, bits_price)
    solution = least_error(problem, 1.5 * problem.smallest_cost)
    second = corrected(lab, first, solution)
    factors = [
        float(b[0] / a[0]) if a[0] > 0 else 1.0
        for a, b in zip((*first.words, *first.weights), (*second.words, *second.weights), strict=True)
    ]
    assert all(0.5 - 1e-9 <= factor <= 2 + 1e-9 for factor in factors)
    assert any(factor != 1 for factor in factors)


def test_a_big_network_is_measured_on_few_widths_and_images(monkeypatch):
    monkeypatch.setattr("snnconvert.allocation.laboratory._MOST_MACS", 1e6)
    lab, _, _ = laboratory(Residual, choices=Choices(T=4))
    assert lab.images == 4
    open_groups = [o for o, group in zip(lab.word_options, lab.groups.words, strict=True) if not group.kept]
    assert set(open_groups) == {(1, 2, 3, 4, 6)}
    assert set(lab.weight_options) == {(2, 3, 4, 6)}
    assert all(len(errors) == 7 for errors in measured_sensitivity(lab).weights)


def test_the_conversion_of_the_api_is_no_different_without_an_objective():
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    network = seeded(Residual)
    snn = snnconvert.convert(network, images, PLAIN, progress=False)
    assert snn.report.allocation is None
    assert "allocation" not in snn.report.to_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_twin_gives_the_nearest_value_of_a_logarithmic_word(dtype):
    site = Site("softmax", "softmax", "inserted", 0, 1, 4, "log:base=sqrt2")
    values = torch.rand(4, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = values.clone()
    found = quantized(values, Threshold(0.001, site.code), site, SpikeChannels())
    table = torch.tensor(site.code.words).double() * 0.001
    exact = values.double()
    assert found.dtype == dtype
    assert torch.equal(values, before)
    distance = (exact[..., None] - table).abs().amin(-1)
    slack = 0.01 if dtype == torch.bfloat16 else 1e-6
    assert bool(((found.double() - exact).abs() <= distance + slack * exact).all())


def test_shifts_are_as_in_float64():
    """Words of values less their shifts; rounded weights meet these words, the layer's own weights the shifts."""
    config = dataclasses.replace(PLAIN, threshold_granularity="channel", channel_shift=True, bias_correction=False)
    lab, _, _ = laboratory(Offset, config, FEW, count=64)
    network, (sample,) = seeded(Offset).double(), lab.sample
    layer = lab.groups.layers[named_index(lab.groups, "inner")]
    (family,) = lab.groups.words[layer.group].families
    threshold = lab.words(layer.group, 4).thresholds[family]
    assert sum(map(bool, threshold.channel_shifts)) > 8
    weights = lab.weights(named_index(lab.groups, "inner"), 4)
    (rounded,) = weights.weights.values()
    found = lab.twin.run_from_start([sample], lab.words(layer.group, 4).changed(weights))
    with torch.no_grad():
        embedded = network.embed(sample.double())
        steps, shifts = (torch.tensor(v).double() for v in (threshold.channel_steps, threshold.channel_shifts))
        words = ((network.norm(embedded) - shifts) / steps).round()
        words = words.clamp(threshold.code.minimum, threshold.code.maximum)
        inner = (words * steps) @ rounded.double().T + network.inner(shifts)
        expected = network.head(embedded + network.outer(torch.relu(inner)) + 3.0).mean(1)
    assert found[0].double() == pytest.approx(expected, abs=1e-4)


def test_an_allocated_network_is_shifted_and_runs_in_time():
    config = dataclasses.replace(PLAIN, budget=12.0, threshold_granularity="smoothed", channel_shift=True)
    images = torch.randn(64, 5, 6, generator=torch.Generator().manual_seed(0))
    snn = snnconvert.convert(seeded(Offset), images, config, progress=False)
    assert any(note.startswith("zero points per channel at 2 of 2 sites") for note in snn.report.notes)
    assert snn.report.totals.bit_budget <= 12.0
    with torch.no_grad():
        assert torch.equal(snn(images), snn.simulate(images).output)
