"""Every spike code step by step against a few lines of its own arithmetic, in exact fractions where it counts."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.registry import make_code

SHAPES = [(b, T) for b in range(1, 9) for T in range(1, 9) if b * T <= 8]
COUNTING = ["if", "if:reset=hard", "if:v0=0", "lif:leak=0.9", "lif:leak=0.5,reset=hard"]
EVERY = [*COUNTING, "multithreshold", "multithreshold:rule=ecmt", "ternary", "differential", "packed"]


def fired(code, currents):
    """Trains [T, ...] for one current a step (T times the step's current, in steps of the code)."""
    state, train = code.initial(currents[0]), []
    for index, current in enumerate(currents):
        spikes, state = code.coast(state) if not code.streams and index else code.step(current, state)
        train.append(spikes)
    return torch.stack(train), state


def held(code, potential):
    """Trains for a window's whole current, as a neuron that waits receives it."""
    return fired(code, [potential.double()] * code.T)


def rounded_half_even(value):
    whole = math.floor(value)
    rest = value - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


@pytest.mark.parametrize(("bits", "T"), SHAPES)
@pytest.mark.parametrize("offset", [0, 1, 0.5, 1.0])
def test_greedy_digits_round_half_to_even(bits, T, offset):
    """On every level, every tie between levels, beside them, and far outside."""
    levels = 2 ** (bits * T)
    code = PackedCode(bits, T, offset=min(levels - 1, round(offset * (levels - 1)) if offset != 1 else 1))
    halves = np.arange(-2 * levels, 4 * levels) / 2 - code.offset
    near = np.concatenate([np.nextafter(halves.astype(np.float32), np.float32(d)) for d in (-np.inf, np.inf)])
    potentials = np.concatenate([halves, near, [1e9, -1e9, 1e-30, -1e-30]]).astype(np.float32)
    train, _ = held(code, torch.tensor(potentials))
    assert train.dtype == torch.uint8
    assert int(train.max()) <= 2**bits - 1
    exact = [rounded_half_even(Fraction(float(u))) for u in potentials]
    expected = [min(max(z, -code.offset), levels - 1 - code.offset) for z in exact]
    assert code.from_spikes(train).long().tolist() == expected
    neuron = SpikingNeuron(code, torch.tensor(1.0), torch.tensor(1.0))
    assert neuron(torch.tensor(potentials)).long().tolist() == expected


@pytest.mark.parametrize("T", [1, 2, 3, 4, 7, 8, 16, 31, 32])
@pytest.mark.parametrize("bits", [1, 2, 3])
def test_constant_current_is_the_staircase(bits, T):
    """QCFS: clip(⌊zT/θ + 1/2⌋, 0, T·(2^b − 1)), thresholds θ and currents z swept together."""
    code = make_code("if", bits, T)
    highest = T * (2**bits - 1)
    for theta in (Fraction(1, 8), Fraction(1), Fraction(5, 2)):
        steps = [Fraction(k, 16) for k in range(-8, 16 * highest + 24)]
        currents = [u * theta / T for u in steps]  # z, in the ANN's units
        potential = torch.tensor([float(z * T / theta) for z in currents], dtype=torch.float64)
        train, _ = held(code, potential)
        expected = [min(max(math.floor(z * T / theta + Fraction(1, 2)), 0), highest) for z in currents]
        assert train.long().sum(0).tolist() == expected
        assert code.quantize_(potential.clone(), code.maximum).long().tolist() == expected


@st.composite
def dyadic_currents(draw, T):
    """T tensors of three currents each, T times steps of the code, on a grid of sixteenths."""
    numbers = draw(st.lists(st.integers(-400, 900), min_size=3 * T, max_size=3 * T))
    return [torch.tensor(numbers[3 * t : 3 * t + 3], dtype=torch.float64) / 16 for t in range(T)]


@given(st.data(), st.sampled_from([1, 2, 3]), st.integers(1, 9), st.sampled_from(["soft", "hard"]))
@settings(max_examples=60, deadline=None)
def test_integrate_and_fire_step_by_step(data, bits, T, reset):
    v0 = data.draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1)]))
    currents = data.draw(dyadic_currents(T))
    code = make_code(f"if:reset={reset},v0={float(v0)}", bits, T)
    train, state = fired(code, currents)
    for neuron in range(3):
        v, total = v0 * T, Fraction(0)
        for t in range(T):
            v += Fraction(float(currents[t][neuron])) + (Fraction(1, 2) - v0)
            s = min(max(math.floor(v / T), 0), 2**bits - 1)
            assert int(train[t, neuron]) == s
            v = v - T * s if reset == "soft" else (Fraction(0) if s else v)
            total += s
        assert Fraction(float(state.potential[neuron])) == v
        if reset == "soft":  # nothing is lost: v_T + θ·Σs = v_0 + Σi
            assert v + T * total == v0 * T + sum(Fraction(float(c[neuron])) + Fraction(1, 2) - v0 for c in currents)


@given(st.data(), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_burst_is_a_bank_of_thresholds(data, bits, T):
    """H-MT: thresholds θ·2^k subtract one after the other within a step."""
    currents = data.draw(dyadic_currents(T))
    train, _ = fired(make_code("if", bits, T), currents)
    for neuron in range(3):
        v = Fraction(T, 2)
        for t in range(T):
            v += Fraction(float(currents[t][neuron]))
            s = 0
            for k in reversed(range(bits)):
                if v >= T * 2**k:
                    v -= T * 2**k
                    s += 2**k
            assert int(train[t, neuron]) == s


@given(st.data(), st.integers(1, 8), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
@settings(max_examples=40, deadline=None)
def test_leaky_membranes_settle_where_they_start(data, T, leak):
    currents = data.draw(dyadic_currents(T))
    train, state = fired(make_code(f"lif:leak={leak}", 1, T), currents)
    for neuron in range(3):
        v = rest = T / 2
        for t in range(T):
            v = rest + leak * (v - rest) + float(currents[t][neuron])
            s = int(v >= T)
            assert int(train[t, neuron]) == s
            v -= T * s
        assert float(state.potential[neuron]) == pytest.approx(v)
    _, quiet = fired(make_code("lif", 1, T), [torch.zeros(2, dtype=torch.float64)] * T)
    assert quiet.potential.tolist() == pytest.approx([T / 2] * 2)


@given(st.data(), st.integers(1, 7), st.integers(1, 8), st.booleans(), st.sampled_from(["nearest", "ecmt"]))
@settings(max_examples=80, deadline=None)
def test_multithreshold_fires_the_largest_power_it_reaches(data, bits, T, signed, rule):
    currents = data.draw(dyadic_currents(T))
    code = make_code(f"multithreshold:rule={rule}", bits, T)
    code = type(code)(bits, T, signed=signed, rule=rule)
    train, _ = fired(code, currents)
    for neuron in range(3):
        m, total = Fraction(0), 0
        for t in range(T):
            m += Fraction(float(currents[t][neuron]))
            reached = [
                2**k
                for k in range(bits)
                if abs(m) >= (Fraction(3, 4) * T * 2**k if rule == "nearest" else T * (2**k - Fraction(1, 2)))
            ]
            s = max(reached, default=0)
            if m < 0:
                s = s if signed else max((p for p in (0, *reached) if p <= total), default=0)
                s = -s
            assert int(train[t, neuron]) == s
            m -= T * s
            total += s
        assert signed or total >= 0


@given(st.data(), st.integers(1, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ternary_spikes_end_at_the_staircase_in_any_order(data, active, signed):
    """ST-BIF+: after enough silence the sum is that of the whole current, whatever its course."""
    T = 40
    code = type(make_code("ternary", 1, T))(1, T, signed=signed)
    given_currents = data.draw(dyadic_currents(active))
    scaled = [current * T / 8 for current in given_currents]
    silence = [torch.zeros(3, dtype=torch.float64)] * (T - active)
    train, _ = fired(code, [*scaled, *silence])
    assert set(train.flatten().tolist()) <= {-1, 0, 1}
    running = train.long().cumsum(0)
    assert int(running.max()) <= T
    assert int(running.min()) >= (-T if signed else 0)
    for neuron in range(3):
        total = sum(Fraction(float(c[neuron])) for c in given_currents) / 8
        if abs(total) < T - active - 1:
            expected = math.floor(total + Fraction(1, 2))
            assert int(running[-1, neuron]) == (expected if signed else max(expected, 0))


@given(st.data(), st.integers(1, 7), st.integers(1, 8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_differential_spikes_as_published(data, bits, T, signed):
    """DCGS with its own variables: differential inputs x_t, means m_i and m_o, membrane m."""
    changes = data.draw(dyadic_currents(T))
    code = type(make_code("differential", bits, T))(bits, T, signed=signed)
    means = torch.zeros(3, dtype=torch.float64)
    currents = []
    for t, x in enumerate(changes, start=1):
        currents.append((x + means) * T)  # the rate-coded current of this step
        means = means + x / t
    train, state = fired(code, currents)
    for neuron in range(3):
        m = mean_in = mean_out = 0.0
        for t in range(1, T + 1):
            x = float(changes[t - 1][neuron])
            m += x + mean_in - mean_out
            sizes = [2**k for k in range(bits) if abs(m) >= 0.75 * 2**k - 1e-12]
            if any(abs(abs(m) - 0.75 * 2**k) < 1e-9 for k in range(bits)):
                return  # beside a threshold the order of rounding decides
            s = max(sizes, default=0)
            if m < 0:
                s = (
                    -s
                    if signed
                    else -max((2**k for k in range(bits) if 2**k <= min(s, mean_out * t + 1e-9)), default=0)
                )
            assert int(train[t - 1, neuron]) == s
            m -= s
            mean_in += x / t
            mean_out += s / t
        assert float(code.from_spikes(train)[neuron]) == pytest.approx(mean_out * T)
        assert float(state.mean[neuron]) == pytest.approx(mean_out)


@given(st.integers(1, 10), st.floats(1.05, 2.0), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_spikepack_leaves_less_than_one_step(T, tau, seed):
    code = make_code(f"spikepack:tau={tau}", 1, T)
    u = torch.from_numpy(np.random.default_rng(seed).uniform(0, code.maximum, 50))
    train, _ = held(code, u)
    value = code.from_spikes(train)
    weights = np.array([tau ** (T - t) for t in range(1, T + 1)])
    np.testing.assert_allclose(value.numpy(), weights @ train.double().numpy(), rtol=1e-9)
    # greedy: the potential starts half a step higher and ends within one step of zero
    assert bool(((u + 0.5 - value) < 1 + 1e-9).all())
    assert bool(((u + 0.5 - value) >= -1e-9).all())


@pytest.mark.parametrize("T", [1, 4, 8])
def test_spikepack_at_two_is_the_packed_code(T):
    u = torch.linspace(-3, 2**T + 3, 4001, dtype=torch.float64)
    u = u[((u - u.floor()) - 0.5).abs() > 1e-6]
    packed, _ = held(PackedCode(1, T), u)
    assert torch.equal(held(make_code("spikepack:tau=2", 1, T), u)[0], packed)


@given(st.sampled_from(EVERY), st.integers(1, 7), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=120, deadline=None)
def test_no_train_leaves_the_proven_range(neuron, bits, T, seed):
    if neuron == "packed" and bits * T > 8:
        return
    code = make_code(neuron, bits, T)
    low, high = code.spike_range
    train = torch.randint(low, high + 1, (T, 200), generator=torch.Generator().manual_seed(seed))
    values = code.from_spikes(train)
    direct = (torch.tensor(code.weights, dtype=torch.float64) @ train.double()) - code.offset
    torch.testing.assert_close(values, direct)
    least, most = code.extremes
    assert least - 1e-6 <= float(values.min())
    assert float(values.max()) <= most + 1e-6
    assert len(code.growth) == len(code.weights) == len(code.rests) == T


@pytest.mark.parametrize("neuron", EVERY)
@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-1.0, 3.0), (-2.5, 0.25)])
def test_a_code_spans_what_it_is_told(neuron, low, high):
    bits, T = (2, 4) if neuron == "packed" else (2, 6)
    step, code = make_code(neuron, bits, T).spanning(low, high)
    assert step * code.minimum <= low + step
    assert step * code.maximum >= high - step
    assert code.signed == (low < 0 and code.has_sign)
    assert (code.offset > 0) == (low < 0 and not code.has_sign)


@pytest.mark.parametrize("neuron", [n for n in EVERY if n != "packed"])
def test_codes_that_stream_take_current_at_every_step(neuron):
    code = make_code(neuron, 2, 3)
    with pytest.raises(TypeError, match="current at every step"):
        code.coast(code.initial(torch.zeros(1)))
