import math

import pytest

from snnconvert.training.sparsity_control import SparsityController


def driven(controller, rate, steps, lag=0.9, power=0.3):
    """A network whose rate falls with a power of λ, some steps late."""
    start, now, seen = rate, rate, []
    for _ in range(steps):
        weight = controller.update(1 - now)
        settled = min(start, start * (weight / 1e-5) ** -power)
        now = lag * now + (1 - lag) * settled
        seen.append(1 - now)
    return seen


@pytest.mark.parametrize("target", [0.88, 0.93, 0.97])
@pytest.mark.parametrize("start", [1e-6, 1e-4])
def test_a_target_is_reached_and_kept(target, start):
    seen = driven(SparsityController(target, start), 0.15, 400)
    assert seen[-50:] == pytest.approx([target] * 50, abs=0.005)
    assert max(seen) < target + 0.35 * (1 - target)


def test_the_weight_grows_while_the_network_is_too_busy_and_falls_while_it_is_too_sparse():
    controller = SparsityController(0.9, 1e-5)
    busy = [controller.update(0.8) for _ in range(5)]
    assert busy == sorted(busy)
    assert busy[0] > 1e-5
    sparse = [controller.update(0.99) for _ in range(30)]
    assert sparse == sorted(sparse, reverse=True)
    assert sparse[-1] < 1e-5


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_no_target_makes_the_weight_run_away(target):
    controller = SparsityController(target, 1e-5)
    for sparsity in (0.0, 1.0):
        for _ in range(1000):
            weight = controller.update(sparsity)
            assert 0 < weight < math.inf


def test_a_saved_state_goes_on_alike():
    one = SparsityController(0.9, 1e-5)
    for sparsity in (0.8, 0.85, 0.95):
        one.update(sparsity)
    other = SparsityController(0.9, 3.0)
    other.load(one.state())
    assert other.weight == one.weight
    assert other.update(0.87) == one.update(0.87)
