import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnconvert.report.network.timing import Timing, steps_inside


@given(st.integers(1, 6), st.integers(1, 6))
def test_every_layout_keeps_the_steps_of_a_neuron_together(steps, images):
    train = torch.arange(steps * images * 3).view(steps, images, 3)
    wanted = train.reshape(steps, -1)
    first, last = Timing(images, steps), Timing(images, steps, time_first=False)
    assert torch.equal(first.by_step(train.flatten(0, 1)), wanted) or images == steps * images
    assert torch.equal(last.by_step(train.transpose(0, 1).flatten(0, 1)), wanted) or images == steps * images
    assert torch.equal(last.by_step(train.transpose(0, 1)), wanted) or images == steps
    if steps > 1:
        assert first.steps_of(train.shape) == first.steps_of(train.flatten(0, 1).shape) == steps


@pytest.mark.parametrize(
    ("shape", "steps"),
    [((4, 3, 8), 4), ((12, 8), 4), ((3, 8), 1), ((3, 5, 8), 1), ((24, 8, 8), 4), ((9, 8), 3), ((7, 8), None)],
)
def test_steps_of_a_shape(shape, steps):
    assert Timing(3, 4).steps_of(shape) == steps


@pytest.mark.parametrize(("shape", "steps"), [((3, 8), 1), ((12, 7, 8), 1), ((7, 8), None), ((), None)])
def test_without_time_rows_are_positions(shape, steps):
    assert Timing(3, 1).steps_of(shape) == steps


@pytest.mark.parametrize(
    ("convolved", "others", "steps"),
    [
        ([(3, 1, 8, 8), (12, 2, 8, 8), (12, 2, 4, 4)], [(3, 10)], 4),
        ([(3, 1, 8, 8)], [(12, 7, 5)], 1),
        ([], [(4, 3, 7, 5), (4, 3, 7, 9)], 4),
        ([], [(12, 5)], 4),
        ([], [(3, 7, 5)], 1),
        ([(7, 1, 8, 8)], [], 1),
    ],
)
def test_steps_that_layers_agree_on(convolved, others, steps):
    assert steps_inside(convolved, others, 3) == steps
