"""Tables over 256 potentials, against the functions in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.byte_tables import byte_table
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.tabulation import tabulate

GATED = {
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "hardswish": F.hardswish,
}
OTHERS = {
    "gelu": F.gelu,
    "mish": F.mish,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "sine": torch.sin,
    "logarithm": torch.log,
    "constant": torch.zeros_like,
}
STEPS = st.floats(-3, 0).map(lambda power: 10.0**power)


def grid_of(table):
    return (torch.arange(len(table.values), dtype=torch.float64) + table.first) * table.spacing


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(GATED)), STEPS, st.integers(0, 70))
def test_gated_tables_are_functions_to_half_a_step_of_their_gate(name, step, offset):
    table = byte_table(GATED[name], step, PackedCode(2, 4, offset=offset))
    grid = grid_of(table)
    off = (table.values.double() * step - GATED[name](grid)).abs()
    assert bool((off <= grid.abs() / 510 * (1 + 1e-6)).all())
    assert len(table.values) == 256
    assert float(table.values[-table.first]) == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OTHERS)), STEPS, st.integers(0, 70))
def test_other_tables_are_the_function_itself(name, step, offset):
    code = PackedCode(2, 4, offset=offset)
    table = byte_table(OTHERS[name], step, code)
    exact = (OTHERS[name](grid_of(table)) / step).clamp(code.minimum - 1, code.maximum + 1)
    known = ~exact.isnan()
    torch.testing.assert_close(table.values.double()[known], exact[known], rtol=1e-6, atol=1e-6)
    assert len(table.values) <= 256


@pytest.mark.parametrize("step", [0.004, 0.03, 0.4])
@pytest.mark.parametrize("name", [*GATED, "gelu", "mish", "elu", "tanh", "sigmoid"])
def test_beyond_a_grid_functions_change_by_no_more_than_neighbours_differ(name, step):
    function, code = (GATED | OTHERS)[name], PackedCode(2, 4, offset=20)
    table = byte_table(function, step, code)
    grid = grid_of(table)
    apart = float((function(grid).diff().abs() / step).max())
    for end, sign in ((grid[0], -1), (grid[-1], 1)):
        beyond = end + sign * torch.linspace(0, 20, 2001, dtype=torch.float64)
        values, own = (function(x).div(step).clamp(code.minimum, code.maximum) for x in (beyond, end))
        assert float((values - own).abs().max()) <= 1.1 * apart + 1


def test_functions_that_256_potentials_are_enough_for_keep_their_fine_grid():
    code = PackedCode(1, 4, offset=2)
    assert byte_table(torch.tanh, 0.2, code)._replace(values=None) == tabulate(torch.tanh, 0.2, code)._replace(
        values=None
    )
