"""Every model by hand, term by term, and where two forms of a network must cost the same."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_cases import mostly_slow
from works import packed, rate_coded

from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.counting import OperationCounting
from snnconvert.energy.effort import NeuromorphicEffort, SynapticEffort
from snnconvert.energy.hierarchy import HierarchyConstants, MemoryHierarchy, NeuromorphicDataflow, SpatialDataflow
from snnconvert.energy.profile import load_profile, shipped_profiles
from snnconvert.energy.twin import TwinConstants, TwinModel

MODELS = [model for profile in shipped_profiles() for model in load_profile(profile).models()]
IDS = [f"{profile}-{model.name}" for profile in shipped_profiles() for model in load_profile(profile).models()]
WORK = packed(T=4, bits=2, weight_bits=4, bit_density=0.25, word_density=0.6, macs=1000, fan_in=50)


@st.composite
def layers(draw):
    T, bits = draw(st.sampled_from([(1, 1), (1, 8), (2, 2), (4, 2), (8, 1), (3, 1)]))
    word = draw(st.floats(0, 1))
    return dataclasses.replace(
        packed(
            T=T,
            bits=bits,
            weight_bits=draw(st.integers(1, 8)),
            bit_density=draw(st.floats(0, 1)) * word,
            word_density=word,
            macs=draw(st.integers(1, 10**9)),
            fan_in=draw(st.integers(1, 10**4)),
        ),
        firing_rate=word,
    )


def test_counting_by_hand():
    model = OperationCounting()
    found = {network: model.layer(WORK, network).total for network in Network}
    assert found == {
        Network.ANN_FLOAT32: pytest.approx(1000 * 4.6),
        Network.ANN_INT8: pytest.approx(1000 * (0.2 + 0.1)),
        Network.TWIN_QNN: pytest.approx(1000 * (0.2 * 4 * 8 / 64 + 0.1)),
        Network.SNN_SERIAL: pytest.approx(1000 * 8 * 0.25 * 0.1),
        Network.SNN_PACKED: pytest.approx(1000 * 0.6 * (0.2 * 4 * 8 / 64 + 0.1)),
    }


def test_counting_of_float_weights_is_that_of_the_literature():
    """E_SNN/E_ANN = T·rate·0.9/4.6."""
    model, work = OperationCounting(), rate_coded(6, 0.2, weight_bits=32)
    serial, ann = (model.layer(work, network).total for network in (Network.SNN_SERIAL, Network.ANN_FLOAT32))
    assert serial / ann == pytest.approx(6 * 0.2 * 0.9 / 4.6)


def test_effort_by_hand():
    dense, sparse = SynapticEffort(), NeuromorphicEffort()
    for model, serial, words in ((dense, 1, 1), (sparse, 0.4, 0.6)):
        found = {network: model.layer(WORK, network).total for network in Network}
        assert found[Network.ANN_FLOAT32] == 1000 * 1024
        assert found[Network.ANN_INT8] == 1000 * 64
        assert found[Network.TWIN_QNN] == 1000 * 4 * 8
        assert found[Network.SNN_SERIAL] == pytest.approx(1000 * 4 * 4 * 2 * serial)
        assert found[Network.SNN_PACKED] == pytest.approx(1000 * 4 * 8 * words)


def test_memory_hierarchy_by_hand():
    model = MemoryHierarchy()
    mac = 0.2 * 4 * 8 / 64 + 0.03
    twin = 0.6 * (mac + 20 + 10 + 40) + (2000 + 20) / 216
    k = 2 * 8 / 9
    serial = 2 * (0.03 + 10 + 40 + 2.5 * k) + 2 * 0.03 / 50 + 8 * (60 + 0.06 + 2.5 * k) / 50 + k * (2000 + 20) / 216
    assert model.layer(WORK, Network.TWIN_QNN).total == pytest.approx(1000 * twin)
    assert model.layer(WORK, Network.SNN_SERIAL).total == pytest.approx(1000 * serial)
    float32 = 0.6 * (4.6 + 4 * 80) + (8000 + 80) / 216
    assert model.layer(WORK, Network.ANN_FLOAT32).total == pytest.approx(1000 * float32)


def test_dataflows_by_hand():
    spatial, chip = SpatialDataflow(), NeuromorphicDataflow(HierarchyConstants(mean_hops=1.5, event_bits=6))
    serial = 2 * (10 + 0.03) + 8 * (40 + 0.06) / 50
    twin = 0.6 * (10 + 0.2 * 4 * 8 / 64 + 0.03)
    assert spatial.layer(WORK, Network.SNN_SERIAL).total == pytest.approx(1000 * serial)
    assert spatial.layer(WORK, Network.TWIN_QNN).total == pytest.approx(1000 * twin)
    moved = {network: chip.layer(WORK, network).movement for network in Network}
    assert moved[Network.SNN_SERIAL] == pytest.approx(20 * 2 * 6 * 15)
    assert moved[Network.TWIN_QNN] == pytest.approx(20 * 0.6 * 8 * 15)
    assert moved[Network.SNN_PACKED] == pytest.approx(20 * 0.6 * (8 + 6) * 15)
    assert moved[Network.ANN_FLOAT32] == pytest.approx(20 * 0.6 * 32 * 15)


def test_the_twin_model_by_hand():
    given_constants = TwinConstants(
        accumulate_pj=1.0, compare_pj=2.0, subtract_pj=4.0, mac_pj=0.5, mac_pj_per_bit=0.125, memory_pj_per_bit=0.25,
        membrane_bits=8, sparse_move_pj_per_bit_per_hop=8.0, dense_move_pj_per_bit_per_hop=2.0, hops=0.5,
    )  # fmt: skip
    found = {network: TwinModel(given_constants).layer(WORK, network).total / 1000 for network in Network}
    assert found[Network.SNN_SERIAL] == pytest.approx(2 * (4 + 1 + 1) + 8 / 50 * (2 + 4) + 2 * 4 / 50)
    assert found[Network.TWIN_QNN] == pytest.approx(8 * 1 + 1 + 0.6 * 1.0)
    assert found[Network.SNN_PACKED] == pytest.approx(0.6 * (8 * 4 + 1.0 + 1) + (2 + 4) / 50 + 0.6 * 4 / 50)
    assert found[Network.ANN_INT8] == pytest.approx(8 * 1 + 2 + 0.6 * 1.5)
    reused = TwinModel(dataclasses.replace(given_constants, weight_reuse="window", gating="weights"))
    assert reused.layer(WORK, Network.SNN_SERIAL).weights == pytest.approx(1000 * 0.6 * 1)
    assert reused.layer(WORK, Network.TWIN_QNN).weights == pytest.approx(1000 * 0.6 * 1)


@pytest.mark.parametrize("model", [MemoryHierarchy(), SpatialDataflow()], ids=lambda model: model.name)
@given(work=layers())
def test_packed_is_the_twin_where_nothing_moves(model, work):
    assert model.layer(work, Network.SNN_PACKED) == model.layer(work, Network.TWIN_QNN)


@pytest.mark.parametrize("model", mostly_slow(MODELS, keep=MODELS[::4]), ids=IDS)
@given(work=layers(), factor=st.floats(0, 1))
def test_fewer_spikes_never_cost_more(model, work, factor):
    for network in (Network.SNN_SERIAL, Network.SNN_PACKED):
        busy, quiet = model.layer(work, network).total, model.layer(work.busier(factor), network).total
        assert 0 <= quiet <= busy * (1 + 1e-12)


@pytest.mark.parametrize("model", mostly_slow(MODELS, keep=MODELS[::4]), ids=IDS)
@given(work=layers(), times=st.integers(2, 1000))
def test_costs_are_proportional_to_the_work(model, work, times):
    larger = dataclasses.replace(work, macs=work.macs * times, inputs=work.inputs * times)
    for network in Network:
        assert model.layer(larger, network).total == pytest.approx(times * model.layer(work, network).total)


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_what_stays_analog_has_its_full_price_in_spiking_networks_and_twins(model):
    real = dataclasses.replace(WORK, spiking=False, T=3)
    once = model.real_macs(1000, Network.ANN_FLOAT32)
    assert model.layer(real, Network.ANN_FLOAT32) == model.layer(real, Network.TWIN_QNN) == once
    assert model.layer(real, Network.SNN_SERIAL).total == pytest.approx(3 * once.total)
    assert model.layer(real, Network.ANN_INT8).total <= once.total


def test_costs_add_up():
    first, second = Cost(1, 2, 3, 4, 5), Cost(10, 20, 30, 40, 50)
    assert first + second == Cost(11, 22, 33, 44, 55)
    assert first * 2 == Cost(2, 4, 6, 8, 10)
    assert (first + second).total == first.total + second.total == 165
