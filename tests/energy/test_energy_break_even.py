"""Break-even points: both sides cost the same there, and the words of the verdict agree with the figures."""

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from works import network, packed, rate_coded

from snnconvert.energy.break_even import bit_rate, break_even, total_cost
from snnconvert.energy.comparison import EnergyAccount, compare_energy
from snnconvert.energy.cost import Network
from snnconvert.energy.effort import SynapticEffort
from snnconvert.energy.hierarchy import SpatialDataflow
from snnconvert.energy.profile import load_profile, shipped_profiles
from snnconvert.energy.twin import TwinModel
from snnconvert.energy.workload import LayerWork
from snnconvert.errors import InputError

TWO = network(
    packed("first", bit_density=0.1, word_density=0.3, fan_in=27),
    packed("second", bit_density=0.2, word_density=0.5, macs=5000, fan_in=900),
    ann_operations=50, real_operations=5, integer_operations=7,
)  # fmt: skip


@pytest.mark.parametrize("profile", shipped_profiles())
@settings(max_examples=25)
@given(densities=st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)), min_size=1, max_size=3))
def test_both_cost_the_same_at_the_break_even(profile, densities):
    work = network(
        *(
            packed(f"layer{i}", bit_density=bits, word_density=word, fan_in=20 * (i + 1))
            for i, (bits, word) in enumerate(densities)
        )
    )
    for model in load_profile(profile).models():
        even = break_even(model, work, Network.TWIN_QNN)
        if even.outcome != "crosses":
            continue
        assert even.sparsity == pytest.approx(1 - even.rate)
        factor = even.rate / bit_rate(work)
        if all(layer.word_density * factor < 1 for layer in work.layers):
            there = work.busier(factor)
            serial, twin = (total_cost(model, there, n).total for n in (Network.SNN_SERIAL, Network.TWIN_QNN))
            assert serial == pytest.approx(twin, rel=1e-6)


@given(rate=st.floats(0.005, 0.6), steps=st.integers(2, 16))
def test_wins_below_it_and_loses_above(rate, steps):
    model, work = TwinModel(), network(rate_coded(steps, rate))
    even = break_even(model, work, Network.TWIN_QNN)
    assume(even.outcome == "crosses" and abs(even.rate - rate) > 1e-4)
    serial, twin = (total_cost(model, work, n).total for n in (Network.SNN_SERIAL, Network.TWIN_QNN))
    assert (serial < twin) == (rate < even.rate)


def test_the_most_steps_win_and_one_more_does_not():
    model = SpatialDataflow()
    work = network(packed(T=8, bits=1, bit_density=0.3, word_density=0.8, fan_in=500))
    most = break_even(model, work, Network.TWIN_QNN).most_steps
    assert most is not None
    assert 1 <= most < 8

    def wins(steps):
        shorter = network(dataclasses.replace(work.layers[0], T=steps, spike_bits=1, levels=2**steps))
        return total_cost(model, shorter, Network.SNN_SERIAL).total < total_cost(model, shorter, Network.TWIN_QNN).total

    assert wins(most)
    assert not wins(most + 1)


def test_where_activity_does_not_matter_nothing_crosses():
    even = break_even(SynapticEffort(), network(rate_coded(4, 0.1)), Network.TWIN_QNN)
    assert (even.outcome, even.rate, even.sparsity) == ("never", None, None)
    assert even.measured_rate == pytest.approx(0.1)


@pytest.mark.parametrize("profile", shipped_profiles())
def test_silence_tells_no_rate(profile):
    """Whatever the spikes of a network that never fires are multiplied by, it stays silent."""
    work = network(dataclasses.replace(packed(bit_density=0.0, word_density=0.0), firing_rate=0.0))
    for item in compare_energy(work, load_profile(profile)).models:
        even = item.break_even["twin_qnn"]
        wins = item.totals["snn_serial"].total < item.totals["twin_qnn"].total
        assert (even.outcome, even.rate, even.measured_rate) == ("silent" if wins else "never", None, 0)
        text = " ".join(item.verdict)
        assert "no spike was sent" in text
        assert "any firing rate" not in text


def test_a_silent_layer_leaves_the_rate_open():
    """Counting charges 8 additions of 0.1 pJ a synapse that always fires, and a product of 8 bits 0.3 pJ."""
    silent = dataclasses.replace(packed("silent", bit_density=0.0, word_density=0.0, macs=9000), firing_rate=0.0)
    for work, outcome in ((network(packed(), silent), "silent"), (network(packed()), "crosses")):
        (found,) = [item for item in compare_energy(work, load_profile("cmos45")).models if item.model == "counting"]
        assert found.break_even["twin_qnn"].outcome == outcome
        assert "any firing rate" not in " ".join(found.verdict)


def test_a_twin_that_costs_nothing_has_no_multiple():
    work = network(dataclasses.replace(packed(bit_density=0.0, word_density=0.0), firing_rate=0.0))
    found = compare_energy(work, load_profile("cmos45"))
    sentence = next(item.verdict[0] for item in found.models if item.model == "spatial")
    assert sentence.endswith("packed, its twin nothing.")
    assert "multiple" not in sentence


def test_totals_are_the_layers_and_the_element_wise_work():
    model = TwinModel()
    for form in Network:
        operations = model.operations(*{Network.ANN_FLOAT32: (50, 0), Network.ANN_INT8: (5, 45)}.get(form, (5, 7)))
        layers = sum(model.layer(layer, form).total for layer in TWO.layers)
        assert total_cost(model, TWO, form).total == pytest.approx(layers + operations.total)


@pytest.mark.parametrize("profile", shipped_profiles())
def test_an_account_is_complete_and_read_back(profile):
    account = compare_energy(TWO, load_profile(profile))
    assert [item.model for item in account.models] == [
        "counting", "hierarchy", "spatial", "neuromorphic", "twin", "s-ace", "ns-ace"
    ]  # fmt: skip
    for item in account.models:
        assert set(item.totals) == {form.value for form in Network}
        assert set(item.layers) == {"first", "second"}
        assert all(item.title in line for line in item.verdict)
        assert item.unit != "pJ" or all(account.hardware in line for line in item.verdict)
    assert EnergyAccount.from_dict(dataclasses.asdict(account)) == account


def test_the_verdict_says_who_wins():
    quiet = compare_energy(network(rate_coded(6, 0.01)), load_profile("neuromorphic22"))
    busy = compare_energy(network(rate_coded(6, 0.3)), load_profile("neuromorphic22"))
    wins, loses = ({item.model: " ".join(item.verdict) for item in account.models}["twin"] for account in (quiet, busy))
    assert "it beats its twin as long as" in wins
    assert "1 of 1 layers are cheaper" in wins
    assert "it would beat its twin if fewer than" in loses
    assert "no layer is cheaper" in loses


@pytest.mark.parametrize(
    ("field", "value"), [("macs", -1), ("fan_in", 0), ("firing_rate", 1.5), ("bit_density", float("nan"))]
)
def test_impossible_work_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"layer: {field}"):
        dataclasses.replace(packed(), **{field: value})


def test_layers_without_spikes_are_not_made_busier():
    real = LayerWork("stem", 10, 1, 0, 0, 0, 32, 32, 1, 2, 1.0, 1.0, 1.0, spiking=False)
    work = network(real, packed())
    assert work.busier(0.5).layers[0] == real
    assert work.firing_rate == pytest.approx(0.4)
