"""Transfer functions: tables against the function itself in float64, slopes against LeakyReLU."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.tabulation import tabulate
from snnconvert.neurons.transfer import LARGEST_TABLE, LeakyTransfer, TableTransfer

FUNCTIONS = {
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "softplus": F.softplus,
    "elu": F.elu,
    "exp": torch.exp,
    "squared": torch.square,
    "sine": torch.sin,
    "log": torch.log,
    "constant": torch.zeros_like,
}


def table_of(function, step, code):
    spacing, first, table = tabulate(function, step, code)
    return TableTransfer(torch.tensor(1 / spacing), first, table), spacing


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("step", "offset"), [(0.05, 0), (0.004, 60), (0.5, 3)])
def test_tables_follow_the_function(name, step, offset):
    """A word is f rounded to the nearest, give or take what half a grid point changes."""
    function, code = FUNCTIONS[name], PackedCode(2, 4, offset=offset)
    transfer, spacing = table_of(function, step, code)
    reach = 8 / 3 if name in ("sine", "squared", "exp") else 20.0
    x = torch.linspace(-reach if name != "log" else 1e-3, reach, 20_001)
    exact = (function(x.double()) / step).nan_to_num(0.0)
    inside = (exact > code.minimum) & (exact < code.maximum)
    words = code.quantize_(transfer(x).double(), code.maximum)
    slopes = (exact.diff() / x.double().diff()).abs()[inside[:-1] & inside[1:]]
    steepest = float(slopes.max()) if len(slopes) else 0.0
    assert len(transfer.table) <= LARGEST_TABLE
    assert spacing * steepest <= 0.3 or 2 * len(transfer.table) > LARGEST_TABLE - 4
    if inside.any():
        assert float((words - exact)[inside].abs().max()) <= 0.5 + spacing / 2 * steepest + 0.02


SCALES = {
    "square of tiny values": (torch.square, 1e-5, 1e-11),
    "root of huge values": (torch.sqrt, 1e8, 1e3),
    "inverse root of tiny values": (torch.rsqrt, 1e-5, 20.0),
    "reciprocal of tiny values": (torch.reciprocal, 1e-3, 70.0),
    "reciprocal": (torch.reciprocal, 40.0, 0.002),
    "logarithm of huge values": (torch.log1p, 1e6, 0.9),
}


@pytest.mark.parametrize("name", SCALES)
def test_values_may_be_much_larger_or_smaller_than_potentials(name):
    function, largest, step = SCALES[name]
    transfer, _ = table_of(function, step, PackedCode(4, 2))
    x = largest * torch.linspace(0.05, 1.0, 2000)
    exact = (function(x.double()) / step).clamp(max=256.0)
    assert float((transfer(x) - exact).abs().max()) < 0.3


def test_oscillations_are_followed_near_zero():
    transfer, _ = table_of(torch.sin, 0.05, PackedCode(2, 4, offset=20))
    x = torch.linspace(-30, 30, 5000)
    assert float((transfer(x) - torch.sin(x) / 0.05).abs().max()) < 1.0


def test_undefined_values_are_those_of_the_next_potential():
    far, zero, step, code = torch.tensor([-50.0, -0.3]), torch.zeros(1), 0.1, PackedCode(8, 1, offset=60)
    assert torch.equal(table_of(torch.log, step, code)[0](far), torch.full((2,), code.minimum - 1.0))
    assert torch.equal(table_of(torch.rsqrt, step, code)[0](far), torch.full((2,), code.maximum + 1.0))
    assert torch.equal(table_of(torch.sqrt, step, code)[0](far), torch.zeros(2))
    around = table_of(lambda x: torch.sin(x) / x, step, code)[0](zero)
    assert float((around - 1 / step).abs()) < 0.1


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "elu", "sigmoid"])
def test_far_potentials_saturate(name):
    step, code = 0.02, PackedCode(8, 1, offset=64)
    transfer, _ = table_of(FUNCTIONS[name], step, code)
    x = torch.tensor([-1e6, -1e4, 1e4, 1e6])
    exact = (FUNCTIONS[name](x.double()) / step).round().clamp(code.minimum, code.maximum)
    assert torch.equal(code.quantize_(transfer(x), code.maximum).double(), exact)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["gelu", "silu", "sigmoid"]))
def test_the_same_integer_gives_the_same_value_wherever_it_stands(seed, name):
    transfer, _ = table_of(FUNCTIONS[name], 0.03, PackedCode(2, 4, offset=6))
    values = torch.randint(-5000, 5000, (3, 5, 4, 7), generator=torch.Generator().manual_seed(seed)).float() / 64
    once = transfer(values)
    assert torch.equal(transfer(values.to(memory_format=torch.channels_last)), once)
    assert torch.equal(transfer(values.flatten()[::3]), once.flatten()[::3])
    assert torch.equal(transfer(values.double()), once) or not torch.equal(
        values * transfer.gain, values.double() * transfer.gain
    )


def test_gains_per_channel():
    spacing, first, table = tabulate(F.gelu, 0.05, PackedCode(2, 4, offset=4))
    units = torch.tensor([0.5, 0.01, 2.0]).view(3, 1, 1)
    transfer = TableTransfer(units / spacing, first, table)
    counts = torch.randint(-9, 9, (2, 3, 4, 4)).float()
    assert torch.allclose(
        transfer(counts) * 0.05, F.gelu(counts * units).clamp(max=0.05 * (255 - 4)), atol=0.05 / 2 + 1e-6
    )


def test_tables_reload_with_another_range():
    first = TableTransfer(torch.tensor(1.0), -3, torch.arange(7.0))
    second = TableTransfer(torch.tensor(1.0), 5, torch.arange(7.0))
    second.load_state_dict(first.state_dict())
    x = torch.linspace(-9, 9, 50)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("slope", [torch.tensor(0.1), torch.tensor([0.25, -0.5, 2.0]).view(3, 1, 1)])
def test_slopes(slope):
    transfer = LeakyTransfer(torch.tensor(4.0), 4.0 * slope)
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(transfer(x), torch.where(x < 0, x * (4.0 * slope), x * 4.0))
