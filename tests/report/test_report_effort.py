import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.neurons.activity import activity_of_word_counts
from snnconvert.neurons.packed import PackedCode
from snnconvert.report.effort import s_ace, spike_statistics

CODES = [(b, T) for b, T in itertools.product(range(1, 9), repeat=2) if b * T <= 8]


def digits(word, bits, T):
    """The spikes of one word, the most significant first, by repeated division."""
    found = []
    for _ in range(T):
        word, digit = divmod(word, 2**bits)
        found.append(digit)
    return found[::-1]


@st.composite
def words_and_code(draw):
    bits, T = draw(st.sampled_from(CODES))
    words = draw(st.lists(st.integers(0, 2 ** (bits * T) - 1), min_size=1, max_size=60))
    return words, PackedCode(bits, T, offset=draw(st.integers(0, 2 ** (bits * T) - 1)))


@given(words_and_code())
def test_statistics_of_words_one_by_one(case):
    words, code = case
    counts = torch.bincount(torch.tensor(words), minlength=code.levels)
    trains = [digits(word, code.bits, code.T) for word in words]
    spikes = sum(digit != 0 for train in trains for digit in train)
    ones = sum(word.bit_count() for word in words)
    silent = sum(all(digit == 0 for digit in train) for train in trains)
    found = spike_statistics(activity_of_word_counts(counts, code))
    assert found.firing_rate == pytest.approx(spikes / (len(words) * code.T))
    assert found.spikes_per_neuron == pytest.approx(spikes / len(words))
    assert found.word_sparsity == pytest.approx(silent / len(words))
    assert found.bit_sparsity == pytest.approx(1 - ones / (len(words) * code.bits * code.T))


@given(words_and_code(), st.integers(2, 5))
def test_statistics_are_shares(case, times):
    words, code = case
    counts = torch.bincount(torch.tensor(words), minlength=code.levels)
    once, often = (spike_statistics(activity_of_word_counts(counts * k, code)) for k in (1, times))
    assert once.firing_rate == pytest.approx(often.firing_rate)
    assert once.bit_sparsity == pytest.approx(often.bit_sparsity)
    assert 0 <= once.word_sparsity <= 1
    assert once.word_sparsity <= once.bit_sparsity + 1e-12
    assert once.word_sparsity <= 1 - once.firing_rate + 1e-12


def test_statistics_of_no_words_at_all():
    found = spike_statistics(activity_of_word_counts(torch.zeros(16, dtype=torch.int64), PackedCode(2, 2)))
    assert found.firing_rate == found.spikes_per_neuron == 0


@given(st.integers(0, 10**12), st.integers(2, 8), st.sampled_from(CODES))
def test_effort_counts_every_pair_of_bits(macs, weight_bits, code):
    bits, T = code
    pairs_of_one_mac = sum(1 for _ in itertools.product(range(weight_bits), range(bits), range(T)))
    assert s_ace(macs, weight_bits, bits, T) == macs * pairs_of_one_mac
