"""The figures of Yan et al. (arXiv 2409.08290), recomputed."""

import dataclasses

import pytest
from works import network, rate_coded

from snnconvert.energy.break_even import break_even
from snnconvert.energy.cost import Network
from snnconvert.energy.hierarchy import MemoryHierarchy, SpatialDataflow
from snnconvert.energy.twin import TwinConstants, TwinModel

ANN_DENSITY = 0.45
CLASSICAL = {4: 0.882, 5: 0.9075, 6: 0.924, 7: 0.936, 8: 0.944, 16: 0.973}
SPATIAL = {4: 0.887, 5: 0.910, 6: 0.925, 7: 0.936, 8: 0.944, 16: 0.972}


def ratio(model, work, rival):
    return model.layer(work, Network.SNN_SERIAL).total / model.layer(work, rival).total


@pytest.mark.parametrize(("model", "printed"), [(MemoryHierarchy(), 0.8495), (SpatialDataflow(), 0.7780)])
def test_ratios_at_the_paper_s_sparsity(model, printed):
    work = rate_coded(6, 1 - 0.9419, ann_density=ANN_DENSITY)
    assert ratio(model, work, Network.ANN_INT8) == pytest.approx(printed, abs=5e-5)


def test_the_headline_of_69_percent():
    work = rate_coded(6, 1 - 0.9486, ann_density=ANN_DENSITY)
    assert ratio(SpatialDataflow(), work, Network.ANN_INT8) == pytest.approx(0.69, abs=5e-4)


@pytest.mark.parametrize(
    ("model", "T", "printed"),
    [(MemoryHierarchy(), T, s) for T, s in CLASSICAL.items()] + [(SpatialDataflow(), T, s) for T, s in SPATIAL.items()],
)
def test_break_even_sparsities(model, T, printed):
    even = break_even(model, network(rate_coded(T, 0.05, ann_density=ANN_DENSITY)), Network.ANN_INT8)
    assert even.sparsity == pytest.approx(printed, abs=8e-4)


@pytest.mark.parametrize(
    ("T", "weight_bits", "fan_in", "printed"),
    [(5, 4, 4096, 0.057), (5, 4, 64, 0.054), (2, 4, 4096, 0.104), (2, 8, 4096, 0.123), (3, 8, 4096, 0.082)],
)
def test_break_even_rates_of_twins(T, weight_bits, fan_in, printed):
    even = break_even(
        TwinModel(), network(rate_coded(T, 0.05, weight_bits=weight_bits, fan_in=fan_in)), Network.TWIN_QNN
    )
    assert even.rate == pytest.approx(printed, abs=3e-3)


def test_one_step_is_where_the_reconstruction_misses():
    """The paper has 29.7 %."""
    even = break_even(TwinModel(), network(rate_coded(1, 0.05, weight_bits=8, fan_in=4096)), Network.TWIN_QNN)
    assert even.rate == pytest.approx(0.175, abs=1e-3)


@pytest.mark.parametrize(
    ("constant", "factor", "printed"),
    [
        ("sparse_move_pj_per_bit_per_hop", 0.5, 0.1080),
        ("sparse_move_pj_per_bit_per_hop", 1.5, 0.0385),
        ("dense_move_pj_per_bit_per_hop", 1.5, 0.0807),
        ("dense_move_pj_per_bit_per_hop", 0.5, 0.0330),
    ],
)
def test_sensitivity_to_what_moves(constant, factor, printed):
    given = TwinConstants()
    changed = dataclasses.replace(given, **{constant: factor * getattr(given, constant)})
    work = network(rate_coded(5, 0.05, weight_bits=4, fan_in=4096))
    even = break_even(TwinModel(changed), work, Network.TWIN_QNN)
    assert even.rate == pytest.approx(printed, abs=1.5e-3)


@pytest.mark.parametrize(
    ("T", "rate", "reconstructed", "printed"), [(3, 0.0549, 0.976, 0.987), (8, 0.0852, 1.992, 1.966)]
)
def test_ratios_on_traces_of_vgg16(T, rate, reconstructed, printed):
    """0.64 hops, weights reused over a window, and the twin gated: within 1.5 % of the paper."""
    given = TwinConstants(hops=0.64, weight_reuse="window", gating="weights")
    found = ratio(TwinModel(given), rate_coded(T, rate, weight_bits=4, fan_in=4096), Network.TWIN_QNN)
    assert found == pytest.approx(reconstructed, abs=1e-3)
    assert found == pytest.approx(printed, rel=0.02)
