"""The integer program against every allocation of small random problems."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.allocation.choices import Choices
from snnconvert.allocation.problem import Problem, Solution
from snnconvert.allocation.solve import least_cost, least_error
from snnconvert.errors import ConfigurationError


def random_problem(seed, groups, layers, scale=1.0):
    rng = np.random.default_rng(seed)
    widths = [rng.integers(1, 4) for _ in range(groups)]
    depths = [rng.integers(1, 4) for _ in range(layers)]
    reads = tuple(int(rng.integers(groups)) for _ in range(layers))
    macs = rng.integers(1, 1000, layers) * 1000
    return Problem(
        reads=reads,
        word_errors=tuple(scale * 10 ** rng.uniform(-5, 1, width) for width in widths),
        weight_errors=tuple(scale * 10 ** rng.uniform(-5, 1, depth) for depth in depths),
        word_costs=tuple(rng.integers(0, 2, width) * 5000.0 * np.arange(1, width + 1) ** 2 for width in widths),
        pair_costs=tuple(
            float(macs[layer])
            * np.outer(rng.permutation(np.arange(1, widths[reads[layer]] + 1)), np.arange(2, depths[layer] + 2))
            for layer in range(layers)
        ),
    )


def everything(problem):
    groups = len(problem.word_errors)
    options = [range(len(errors)) for errors in (*problem.word_errors, *problem.weight_errors)]
    for picked in itertools.product(*options):
        words, weights = picked[:groups], picked[groups:]
        error = sum(problem.word_errors[g][o] for g, o in enumerate(words))
        error += sum(problem.weight_errors[index][o] for index, o in enumerate(weights))
        cost = sum(problem.word_costs[g][o] for g, o in enumerate(words))
        cost += sum(problem.pair_costs[i][words[problem.reads[i]], o] for i, o in enumerate(weights))
        yield Solution(words, weights, float(error), float(cost))


problems = st.builds(
    random_problem, st.integers(0, 9999), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1e-7, 1.0, 1e5])
)


@settings(max_examples=60, deadline=None)
@given(problems, st.floats(0, 1))
def test_least_error_is_that_of_all_allocations_within_the_cost(problem, share):
    known = list(everything(problem))
    low, high = min(it.cost for it in known), max(it.cost for it in known)
    assert problem.smallest_cost == pytest.approx(low)
    assert problem.largest_cost == pytest.approx(high)
    limit = low + share * (high - low)
    found = least_error(problem, limit)
    best = min(it.error for it in known if it.cost <= limit * (1 + 1e-9))
    assert found.cost <= limit * (1 + 1e-9)
    assert found.error == pytest.approx(best, rel=2e-5)
    assert found in [Solution(it.words, it.weights, found.error, found.cost) for it in known]


@settings(max_examples=60, deadline=None)
@given(problems, st.floats(0, 1))
def test_least_cost_is_that_of_all_allocations_within_the_error(problem, share):
    known = list(everything(problem))
    low, high = min(it.error for it in known), max(it.error for it in known)
    limit = low * (high / low) ** share
    found = least_cost(problem, limit)
    best = min(it.cost for it in known if it.error <= limit * (1 + 1e-9))
    assert found.error <= limit * (1 + 1e-9)
    assert found.cost == pytest.approx(best, rel=2e-5)


@settings(max_examples=30, deadline=None)
@given(problems)
def test_a_solution_counts_its_own_error_and_cost(problem):
    found = least_error(problem, problem.largest_cost)
    (same,) = [it for it in everything(problem) if (it.words, it.weights) == (found.words, found.weights)]
    assert (found.error, found.cost) == pytest.approx((same.error, same.cost))


def test_what_no_allocation_reaches_is_refused_with_the_smallest_figure():
    problem = random_problem(5, 2, 3)
    with pytest.raises(ConfigurationError, match=re.escape(f"{problem.smallest_cost:.6g}")):
        least_error(problem, problem.smallest_cost * 0.99)
    smallest = min(it.error for it in everything(problem))
    with pytest.raises(ConfigurationError, match=re.escape(f"{smallest:.6g}")):
        least_cost(problem, smallest * 0.99)


def test_the_same_problem_gives_the_same_allocation():
    problem = random_problem(7, 3, 4)
    limit = (problem.smallest_cost + problem.largest_cost) / 2
    assert least_error(problem, limit) == least_error(problem, limit)


def test_a_large_problem_is_near_its_linear_bound():
    rng = np.random.default_rng(0)
    words, weights = np.arange(1, 9), np.arange(2, 9)
    layers = 60
    macs = rng.integers(1, 100, layers) * 1e6
    problem = Problem(
        reads=tuple(index // 2 for index in range(layers)),
        word_errors=tuple(10 ** rng.uniform(-3, 0) * 4.0**-words for _ in range(layers // 2)),
        weight_errors=tuple(10 ** rng.uniform(-3, 0) * 4.0**-weights for _ in range(layers)),
        word_costs=tuple(np.zeros(8) for _ in range(layers // 2)),
        pair_costs=tuple(m * np.outer(words, weights).astype(float) for m in macs),
    )
    limit = 12 * macs.sum()
    found = least_error(problem, limit)
    assert found.cost <= limit
    uniform = problem.error([3] * (layers // 2), [1] * layers)  # 4 bits and 3 bits: the same cost exactly
    assert found.error < uniform


def test_problems_whose_parts_do_not_fit_are_refused():
    one = (np.zeros(2),)
    with pytest.raises(ValueError, match="layer 0"):
        Problem((0,), one, one, one, (np.zeros((2, 3)),))


@pytest.mark.parametrize(("word", "T", "expected"), [(4, 4, (1, 4)), (8, 4, (2, 4)), (6, 4, (2, 3)), (7, 4, (7, 1))])
def test_a_word_is_split_into_the_most_steps(word, T, expected):
    assert Choices(T=T).split(word) == expected


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"word_bits": (0, 4)}, "word_bits"),
        ({"word_bits": (9,)}, "word_bits"),
        ({"word_bits": ()}, "word_bits"),
        ({"weight_bits": (0, 2)}, "weight_bits"),
        ({"weight_bits": (True,)}, "weight_bits"),
        ({"weight_bits": 4}, "weight_bits"),
        ({"T": 0}, "T must"),
    ],
)
def test_choices_out_of_range_are_refused(settings, name):
    with pytest.raises(ConfigurationError, match=name):
        Choices(**settings)
