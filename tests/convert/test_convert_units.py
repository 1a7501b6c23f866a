"""The unit problem from outside: whatever is chosen must make sums of currents sums of integers."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.convert.units import UnitProblem
from snnconvert.errors import ConversionError

LIMIT = 1 << 24


@dataclass
class Case:
    problem: UnitProblem
    sources: list
    given: list  # (scale, bound) of each source
    steps: dict  # class -> step


def sums_of(case):
    """Channels by the class of channels they meet in, found by brute force."""
    count = sum(source.size for source in case.sources)
    label = list(range(count))
    changed = True
    while changed:
        changed = False
        for left, right in case.problem._pairs:
            for a, b in zip(left, right, strict=True):
                low = min(label[a], label[b])
                changed |= label[a] != low or label[b] != low
                label[a] = label[b] = low
    return np.array(label)


def solved(case):
    case.problem.solve()
    scale = np.concatenate([scale for scale, _ in case.given])
    bound = np.concatenate([bound for _, bound in case.given])
    multiplier = np.concatenate([source.multiplier for source in case.sources])
    unit = np.concatenate([source.unit for source in case.sources])
    flexible = np.concatenate([np.full(source.size, source.flexible) for source in case.sources])
    wide = np.concatenate([np.full(source.size, source.wide) for source in case.sources])
    return scale, bound, multiplier, unit, flexible, wide


@st.composite
def cases(draw, spread=3.0):
    """A residual stage: synapses and spikes of C channels, some joined channel by channel, some read."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    channels = draw(st.integers(1, 5))
    problem, sources, known = UnitProblem(), [], []
    base = 10.0 ** rng.uniform(-5, 0)
    for index in range(draw(st.integers(1, 5))):
        flexible = bool(draw(st.booleans())) or index == 0
        if flexible:
            scale = base * 10.0 ** rng.uniform(-spread, 0, channels)
            bound = np.floor(10.0 ** rng.uniform(2, 6.5, channels))
        else:
            scale = np.full(channels, base * 10.0 ** rng.uniform(-1, 1))
            bound = np.full(channels, float(rng.choice([1, 3, 15, 255])))
        sources.append(problem.add_source(f"s{index}", channels, scale, bound, flexible=flexible))
        known.append((scale, bound))
    for left, right in itertools.pairwise(sources):
        if draw(st.booleans()):
            problem.join(left.channels, right.channels)
    steps = {}
    for source in sources:
        if draw(st.booleans()):
            step = base * 10.0 ** rng.uniform(-1, 2)
            problem.read(source.channels, step)
            steps.setdefault(source.name, step)
    return Case(problem, sources, known, steps)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_joined_channels_share_a_unit_and_multipliers_are_counts(case):
    _, _, multiplier, unit, _, _ = solved(case)
    label = sums_of(case)
    assert (unit > 0).all()
    assert np.isfinite(unit).all()
    assert (multiplier >= 1).all()
    for value in np.unique(label):
        assert len(set(unit[label == value])) == 1


@given(cases())
@settings(max_examples=150, deadline=None)
def test_synapses_only_get_coarser_and_spikes_keep_their_scale(case):
    scale, _, multiplier, unit, flexible, _ = solved(case)
    label = sums_of(case)
    alone = np.array([(label == value).sum() == 1 for value in label])
    actual = multiplier * unit
    assert (actual[flexible] >= scale[flexible] * (1 - 1e-6)).all()
    # by at most one unit, or by the few bits of the gain where nothing is added
    coarser = actual[flexible] <= scale[flexible] + unit[flexible] * (1 + 1e-6)
    assert (coarser | (alone[flexible] & (actual[flexible] <= scale[flexible] * 1.126))).all()
    fixed = ~flexible
    error = np.abs(actual[fixed] - scale[fixed])
    assert (error <= unit[fixed] / 2 * (1 + 1e-6)).all()
    assert (error <= scale[fixed] / (2 * multiplier[fixed] - 1) * (1 + 1e-6)).all()


def test_small_spikes_beside_a_coarse_synapse_keep_their_scale():
    problem = UnitProblem()
    conv = problem.add_source("conv", 1, np.array([1.0]), np.array([2e6]), flexible=True)
    spikes = problem.add_source("spikes", 1, np.array([1e-3]), np.array([255.0]), flexible=False)
    problem.join(conv.channels, spikes.channels)
    problem.solve()
    assert abs(spikes.multiplier[0] * spikes.unit[0] - 1e-3) <= spikes.unit[0] / 2


@given(cases(spread=0.3))
@settings(max_examples=100, deadline=None)
def test_comparable_synapses_lose_little(case):
    scale, _, multiplier, unit, flexible, _ = solved(case)
    assert (multiplier[flexible] * unit[flexible] <= scale[flexible] * 1.51).all()


@given(cases())
@settings(max_examples=150, deadline=None)
def test_sums_are_exact_in_float32_unless_declared_wide(case):
    _, bound, multiplier, unit, _, wide = solved(case)
    label = sums_of(case)
    assert (unit > 0).all()
    for value in np.unique(label):
        members = label == value
        if members.sum() > 1 and (multiplier * bound)[members].sum() > LIMIT:
            assert wide[members].all()


def odd_part_bits(value):
    mantissa, _ = np.frexp(value)
    integer = int(mantissa * 2**53)
    while integer % 2 == 0:
        integer //= 2
    return integer.bit_length()


@given(cases())
@settings(max_examples=150, deadline=None)
def test_gains_have_few_bits(case):
    _, _, _, unit, flexible, _ = solved(case)
    label = sums_of(case)
    first = {}
    for source in case.sources:  # the order in which the readers were added
        if source.name in case.steps:
            for channel in source.channels:
                first.setdefault(label[channel], case.steps[source.name])
    for value, step in first.items():
        members = label == value
        if members.sum() > 1 or flexible[members].any():
            assert odd_part_bits(np.float32(unit[members][0] / step)) <= 8


def test_a_told_unit_too_fine_for_an_exact_sum_is_not_taken():
    problem, steps, bound = UnitProblem(), [1.5 * 2.0**-60, 2.0**-30], np.array([255.0])
    sources = [problem.add_source(str(step), 1, np.array([step]), bound, flexible=False) for step in steps]
    problem.join(sources[0].channels, sources[1].channels)
    problem.read(sources[0].channels, steps[1])
    problem.place(sources[0].channels, steps[0])
    problem.solve()
    large = sources[1]
    assert large.multiplier[0] * large.unit[0] == steps[1]
    assert sum(source.multiplier[0] * 255 for source in sources) <= LIMIT


def test_a_current_alone_keeps_its_scale():
    problem = UnitProblem()
    source = problem.add_source("conv", 3, np.array([0.1, 0.2, 0.7]), np.full(3, 1e5), flexible=True)
    problem.solve()
    assert source.multiplier.tolist() == [1, 1, 1]
    np.testing.assert_allclose(source.unit, [0.1, 0.2, 0.7])
    assert not source.wide


def test_a_large_sum_is_wide():
    problem = UnitProblem()
    left = problem.add_source("a", 1, np.array([1.0]), np.array([1.5e7]), flexible=True)
    right = problem.add_source("b", 1, np.array([0.9]), np.array([1.5e7]), flexible=True)
    problem.join(left.channels, right.channels)
    problem.solve()
    assert left.wide
    assert right.wide
    assert left.unit[0] == right.unit[0]
    assert left.multiplier[0] * left.unit[0] == pytest.approx(1.0, rel=0.13)
    assert right.multiplier[0] * right.unit[0] == pytest.approx(0.9, rel=0.13)


@given(st.integers(0, 2**31), st.sampled_from([1, 4, 9, 49]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_pooled_currents_take_the_scale_of_what_they_pool(seed, window, joined):
    rng = np.random.default_rng(seed)
    problem = UnitProblem()
    scale, bound = rng.uniform(0.01, 0.03, 4), np.full(4, 2000.0)
    conv = problem.add_source("conv", 4, scale, bound, flexible=True)
    pool = problem.add_source("pool", 4, None, None, flexible=False, pooled_from=(conv.channels, window))
    others = []
    if joined:
        other = problem.add_source("other", 4, rng.uniform(0.01, 0.03, 4), np.full(4, 50.0), flexible=True)
        problem.join(pool.channels, other.channels)
        others.append(other)
    problem.solve()
    actual = pool.multiplier * pool.unit
    assert (np.abs(actual - conv.unit / window) <= pool.unit / 2 * (1 + 1e-9)).all()
    for other in others:
        np.testing.assert_array_equal(other.unit, pool.unit)
        total = pool.multiplier * bound * window + other.multiplier * 50
        assert pool.wide or (total <= LIMIT).all()
    if not joined:
        np.testing.assert_allclose(actual, conv.unit / window)


def test_pools_of_pools_are_solved_in_turn():
    problem = UnitProblem()
    conv = problem.add_source("conv", 2, np.array([0.1, 0.2]), np.full(2, 100.0), flexible=True)
    first = problem.add_source("first", 2, None, None, flexible=False, pooled_from=(conv.channels, 4))
    second = problem.add_source("second", 2, None, None, flexible=False, pooled_from=(first.channels, 4))
    problem.solve()
    np.testing.assert_allclose(second.multiplier * second.unit, conv.unit / 16)


def test_a_pool_added_to_its_own_source_is_refused():
    problem = UnitProblem()
    conv = problem.add_source("conv", 2, np.array([0.1, 0.2]), np.full(2, 100.0), flexible=True)
    pool = problem.add_source("pool", 2, None, None, flexible=False, pooled_from=(conv.channels, 9))
    problem.join(conv.channels, pool.channels)
    with pytest.raises(ConversionError, match="pooled"):
        problem.solve()


def test_dead_channels_take_the_unit_of_their_sum():
    problem = UnitProblem()
    dead = problem.add_source("dead", 2, np.array([0.0, 0.1]), np.array([0.0, 1000.0]), flexible=True)
    live = problem.add_source("live", 2, np.array([0.2, 0.2]), np.array([1000.0, 1000.0]), flexible=True)
    problem.join(dead.channels, live.channels)
    problem.read(dead.channels, 0.5)
    problem.solve()
    np.testing.assert_array_equal(dead.unit, live.unit)
    assert dead.multiplier[0] == 1
    assert live.multiplier[0] * live.unit[0] == pytest.approx(0.2, rel=0.01)


def test_only_dead_channels_still_get_a_unit():
    problem = UnitProblem()
    source = problem.add_source("dead", 2, np.zeros(2), np.zeros(2), flexible=True)
    problem.read(source.channels[:1], 0.5)
    problem.solve()
    assert (source.unit > 0).all()
    assert source.multiplier.tolist() == [1, 1]
