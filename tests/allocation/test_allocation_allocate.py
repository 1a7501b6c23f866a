"""Allocations through the public interface: budgets kept, figures measured, one pass over the data."""

import dataclasses
import json
import re

import pytest
import torch
from allocation_networks import Attention, Residual, calibrated, images_for, seeded
from slow_cases import mostly_slow

import snnconvert
from snnconvert.allocation.allocate import Allocator, allocate
from snnconvert.allocation.pareto import uniform_allocations
from snnconvert.errors import ConfigurationError, ConversionError, InputError
from snnconvert.finishing import finish
from snnconvert.report.report import Report
from snnconvert.report.tables import report_table


class CountedLoader:
    """Batches of (image, label) that counts how often it is read."""

    def __init__(self, images, labels, size=8):
        self.batches = list(zip(images.split(size), labels.split(size), strict=True))
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(self.batches)


def labelled(kind, count=40):
    """Images with the network's own decisions for labels."""
    images = images_for(kind, count)
    with torch.no_grad():
        return images, seeded(kind)(images).argmax(1)


def convert(kind, loader, **settings):
    return snnconvert.convert(seeded(kind), loader, snnconvert.ConversionConfig(**settings), progress=False)


@pytest.fixture(scope="module")
def ready():
    """A prepared network and its statistics, whatever the settings say later."""
    return calibrated(Residual, snnconvert.ConversionConfig(), 32)


def allocated(ready, **settings):
    prepared, statistics = ready
    config = dataclasses.replace(prepared.config, **settings)
    return allocate(dataclasses.replace(prepared, config=config), statistics)


@pytest.fixture(scope="module")
def mixed():
    loader = CountedLoader(*labelled(Residual))
    return convert(Residual, loader, budget=13, weight_rounding="gptq"), loader


def test_a_budget_is_kept_and_the_data_is_read_once(mixed):
    snn, loader = mixed
    assert snn.report.totals.bit_budget <= 13
    assert snn.plan.bit_budget == pytest.approx(snn.report.totals.bit_budget)
    assert loader.passes == 1


def test_widths_differ_from_layer_to_layer_and_are_in_the_settings(mixed):
    snn, _ = mixed
    widths = {(layer.weight_bits, layer.spike_bits * layer.T) for layer in snn.report.layers}
    assert len(widths) > 2
    assert snn.config.budget == 13
    for layer in snn.report.layers:
        told = snn.config.override_for(layer.name)
        assert told.weight_bits == layer.weight_bits
        assert layer.reads_input or (told.bits, told.T) == (layer.spike_bits, layer.T)
        assert snn.report.allocation.overrides[layer.name]["weight_bits"] == layer.weight_bits


def test_what_is_reported_was_measured_and_the_better_round_is_kept(mixed):
    snn, _ = mixed
    allocation = snn.report.allocation
    kept = allocation.rounds[allocation.chosen]
    assert (allocation.objective, allocation.target) == ("budget", 13)
    assert kept.measured_error == min(item.measured_error for item in allocation.rounds)
    assert kept.bit_budget == snn.report.totals.bit_budget
    assert kept.top1_agreement == snn.report.fidelity.top1_agreement
    decibels = 10 ** (-snn.report.fidelity.logit_sqnr_db / 10)
    assert kept.measured_error == pytest.approx(decibels, rel=0.05)
    assert kept.energy_uj > 0


def test_the_report_is_printed_and_read_back(mixed, tmp_path):
    snn, _ = mixed
    text = json.dumps(snn.report.to_dict(), allow_nan=False)
    assert Report.from_dict(json.loads(text)) == dataclasses.replace(
        snn.report, config=json.loads(json.dumps(snn.report.config))
    )
    assert re.search(r"allocation for budget 13.*\n.*40 images\nround", report_table(snn.report))
    snn.save(tmp_path / "saved")
    loaded = snnconvert.load(tmp_path / "saved")
    images = images_for(Residual, 4)
    assert torch.equal(loaded(images), snn(images))
    assert loaded.report.allocation == snn.report.allocation


def test_settings_that_were_found_give_the_same_network_again(mixed):
    snn, loader = mixed
    again = snnconvert.convert(
        seeded(Residual), list(loader), dataclasses.replace(snn.config, budget=None), progress=False
    )
    assert torch.equal(again(images_for(Residual, 6)), snn(images_for(Residual, 6)))


def test_order_and_batches_of_the_data_change_nothing():
    images = images_for(Residual)
    first = convert(Residual, images.split(5), budget=10)
    second = convert(Residual, images.flip(0).split(11), budget=10)
    assert first.report.allocation.overrides == second.report.allocation.overrides
    assert first.report.allocation.rounds == second.report.allocation.rounds


def test_mixed_widths_err_less_than_uniform_ones_of_the_same_budget(ready):
    prepared, statistics = ready
    allocator = Allocator(prepared, statistics)
    uniform = [
        it for it in uniform_allocations(prepared, allocator.groups) if it.setting in ("3/1/3", "4/1/4", "5/1/4")
    ]
    assert len(uniform) == 3
    for rival in uniform:
        model = allocator.within_budget(rival.bit_budget)
        mean = allocator.convert_with(rival.config).report.totals.bit_budget
        assert mean == pytest.approx(rival.bit_budget)
        assert model.report.totals.bit_budget <= mean * (1 + 1e-9)
        kept = model.report.allocation.rounds[model.report.allocation.chosen]
        assert kept.measured_error < allocator.measured_error(allocator.convert_with(rival.config))


def test_products_of_activations_are_allocated_too():
    snn = convert(Attention, images_for(Attention).split(8), budget=14)
    assert snn.report.totals.bit_budget <= 14
    products = [layer for layer in snn.report.layers if layer.name not in ("embed", "qkv", "proj", "head")]
    assert len(products) == 2
    assert all(layer.weight_bits == layer.spike_bits * layer.T for layer in products)


@pytest.mark.slow
@pytest.mark.parametrize("settings", mostly_slow([{"budget": 14}, {"target_energy": 0.02}], keep=1))
def test_attention_maps_of_logarithmic_words_are_allocated_too(settings):
    """Widths are measured and chosen for words that number powers, and the network fires what was measured."""
    images = images_for(Attention)
    snn = convert(Attention, images.split(8), attention_code="log2", **settings)
    (name, neuron), *others = [(name, neuron) for name, neuron in snn.neurons() if neuron.code.name == "log"]
    assert others == []
    assert name == "softmax"
    if "budget" in settings:
        assert snn.report.totals.bit_budget <= 14
    assert 1 <= neuron.code.word_bits <= 8
    assert torch.equal(snn(images), snn.simulate(images).output)
    assert any("attention maps in log2 code at 1 of 1" in note for note in snn.report.notes)
    assert snn.config.attention_code == "log2"


def test_what_overrides_say_is_kept():
    snn = convert(Residual, images_for(Residual), budget=15, overrides={"two": {"weight_bits": 7, "bits": 3, "T": 1}})
    (layer,) = [layer for layer in snn.report.layers if layer.name == "two"]
    assert (layer.weight_bits, layer.spike_bits, layer.T) == (7, 3, 1)
    assert snn.report.totals.bit_budget <= 15


def test_an_energy_is_kept(ready):
    rich, poor = (allocated(ready, target_energy=energy) for energy in (0.4, 0.15))
    for snn, energy in ((rich, 0.4), (poor, 0.15)):
        allocation = snn.report.allocation
        assert all(item.energy_uj <= energy * (1 + 1e-9) for item in allocation.rounds)
        assert allocation.objective == "target_energy"
    kept = [snn.report.allocation.rounds[snn.report.allocation.chosen] for snn in (rich, poor)]
    assert kept[0].measured_error < kept[1].measured_error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 2.5}, r"budget 2.5 can't be met: .* budget of [3-9]\."),
        ({"target_energy": 1e-3}, "target_energy 0.001 can't be met.*at least"),
    ],
)
def test_what_cannot_be_met_is_refused_with_what_can(ready, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        allocated(ready, **settings)


def test_energies_are_of_packed_neurons():
    with pytest.raises(ConfigurationError, match="packed"):
        convert(Residual, images_for(Residual), target_energy=1.0, neuron="if")


def test_the_smallest_budget_named_can_be_met(ready):
    with pytest.raises(ConfigurationError) as refused:
        allocated(ready, budget=1)
    smallest = float(re.search(r"budget of ([\d.]+)", str(refused.value))[1])
    snn = allocated(ready, budget=smallest * 1.001)
    assert {layer.weight_bits for layer in snn.report.layers} == {2}


def test_a_drop_of_accuracy_is_kept_on_labelled_images(monkeypatch):
    monkeypatch.setattr("snnconvert.allocation.allocate._BISECTIONS", 3)
    images, labels = labelled(Residual)
    loader = CountedLoader(images, labels)
    snn = convert(Residual, loader, max_drop=10.0)
    with torch.no_grad():
        lost = 100 * float((snn(images).argmax(1) != labels).double().mean())
    allocation = snn.report.allocation
    kept = allocation.rounds[allocation.chosen]
    assert kept.drop == pytest.approx(lost)
    assert lost <= 10
    assert kept.bit_budget == min(item.bit_budget for item in allocation.rounds if item.drop <= 10)
    assert kept.bit_budget < 40


def test_a_drop_is_measured_on_the_validation_loader_if_there_is_one(monkeypatch):
    monkeypatch.setattr("snnconvert.allocation.allocate._BISECTIONS", 2)
    images, labels = labelled(Residual)
    wrong = (labels + 1) % 5
    snn = snnconvert.convert(
        seeded(Residual),
        images,
        snnconvert.ConversionConfig(max_drop=0.0),
        progress=False,
        validation=[(images, wrong)],
    )
    assert all(item.drop <= 0 for item in snn.report.allocation.rounds)  # the ANN gets none of these labels right
    with pytest.raises(InputError, match="only once"):
        snnconvert.convert(
            seeded(Residual), images, snnconvert.ConversionConfig(max_drop=1.0), progress=False,
            validation=iter([(images, labels)]),
        )  # fmt: skip


def test_decisions_take_the_place_of_labels(monkeypatch):
    monkeypatch.setattr("snnconvert.allocation.allocate._BISECTIONS", 3)
    images = images_for(Residual, 30)
    snn = convert(Residual, iter(images.split(10)), max_drop=15.0)
    with torch.no_grad():
        changed = 100 * float((snn(images).argmax(1) != seeded(Residual)(images).argmax(1)).double().mean())
    kept = snn.report.allocation.rounds[snn.report.allocation.chosen]
    assert kept.drop == pytest.approx(changed)
    assert changed <= 15


def test_the_second_half_alone_refuses_an_objective():
    prepared, statistics = calibrated(Residual, snnconvert.ConversionConfig(budget=8))
    with pytest.raises(ConfigurationError, match="budget takes snnconvert"):
        finish(prepared, statistics)


class Decision(Residual):
    """Returns its decision alone."""

    def forward(self, x):
        return super().forward(x).argmax(1)


def test_a_network_without_floating_outputs_cannot_be_measured():
    with pytest.raises(ConversionError, match="no floating output"):
        snnconvert.convert(
            seeded(Decision), images_for(Residual, 8), snnconvert.ConversionConfig(budget=16), progress=False
        )
