"""Tables over 256 potentials, against the functions in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.byte_tables import Potentials, byte_table
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


def normal(spread=2.0):
    """Potentials as a normal distribution has them."""
    values = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    return Potentials(spread * values, (-values.square() / 2).exp())


def grid_of(table):
    return (torch.arange(len(table.values), dtype=torch.float64) + table.first) * table.spacing


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(GATED)), STEPS, st.integers(0, 70))
def test_gated_tables_are_functions_to_half_a_step_of_their_gate(name, step, offset):
    table = byte_table(GATED[name], step, PackedCode(2, 4, offset=offset), 1.0, normal())
    grid = grid_of(table)
    off = (table.values.double() * step - GATED[name](grid)).abs()
    assert bool((off <= grid.abs() / 510 * (1 + 1e-6)).all())
    assert len(table.values) == 256
    assert float(table.values[-table.first]) == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OTHERS)), STEPS, st.integers(0, 70))
def test_other_tables_are_the_function_itself(name, step, offset):
    code = PackedCode(2, 4, offset=offset)
    table = byte_table(OTHERS[name], step, code, 1.0, normal())
    exact = (OTHERS[name](grid_of(table)) / step).clamp(code.minimum - 1, code.maximum + 1)
    known = ~exact.isnan()
    torch.testing.assert_close(table.values.double()[known], exact[known], rtol=1e-6, atol=1e-6)
    assert len(table.values) <= 256


def error(table, function, step, code, potentials):
    """Mean squared error of words' values, in steps, over what was seen."""
    exact = (function(potentials.values) / step).clamp(code.minimum, code.maximum)
    places = (potentials.values / table.spacing).round().clamp(table.first, table.first + len(table.values) - 1).long()
    values = table.values[places - table.first].double().clamp(code.minimum, code.maximum)
    return float(((values - exact).square() * potentials.counts).sum() / potentials.counts.sum())


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("name", [*GATED, "gelu", "mish", "elu"])
def test_the_grid_spans_what_was_seen(name, spread):
    """Words of normal potentials are hardly worse than potentials that are rounded to 256 over their own range."""
    function, potentials = (GATED | OTHERS)[name], normal(spread)
    values = function(potentials.values)
    step = float(values.max() - values.min()) / 255
    code = PackedCode(2, 4, offset=round(float(-values.min()) / step))
    found = error(byte_table(function, step, code, 1.0, potentials), function, step, code, potentials)
    apart = float(potentials.values[-1] - potentials.values[0]) / 255
    rounded = (potentials.values / apart).round() * apart
    least = ((function(rounded) - values).square() * potentials.counts).sum() / potentials.counts.sum() / step**2
    assert found <= 1.2 * float(least) + 0.3  # of the gate's own rounding


def test_what_was_hardly_seen_is_cut():
    potentials = Potentials(torch.linspace(-9, 6, 3001).double(), torch.ones(3001).double())
    potentials.counts[potentials.values < -3] = 1e-6
    table = byte_table(F.silu, 0.025, PackedCode(2, 4, offset=11), 1.0, potentials)
    assert -4.5 < table.first * table.spacing < -2.5
    assert table.spacing * 255 < 11


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_single_value_has_a_table(value):
    potentials = Potentials(torch.tensor([value]).double(), torch.ones(1).double())
    table = byte_table(F.silu, 0.025, PackedCode(2, 4, offset=11), 1.0, potentials)
    place = round(value / table.spacing) - table.first
    assert abs(float(table.values[place]) * 0.025 - float(F.silu(torch.tensor(value)))) < 0.03


def test_functions_that_256_potentials_are_enough_for_keep_their_fine_grid():
    code = PackedCode(1, 4, offset=2)
    found, fine = byte_table(torch.tanh, 0.2, code, 1.0, normal()), tabulate(torch.tanh, 0.2, code)
    assert found[:2] == fine[:2]
    assert torch.equal(found.values, fine.values)


def test_a_function_that_is_silu_near_zero_alone_is_itself():
    def bent(x):
        return torch.where(x < 10, F.silu(x), 15 - x / 2)

    table = byte_table(bent, 0.04, PackedCode(2, 4, offset=8), 1.0, normal(4.0))
    clipped = bent(grid_of(table)).clamp(max=0.04 * 248)
    torch.testing.assert_close(table.values.double() * 0.04, clipped, rtol=1e-6, atol=1e-6)
