"""Grids of 256 potentials in a conversion: what calibration saw of each, and which layers have them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnconvert
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.neurons.byte_tables import byte_table
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.transfer import TableTransfer
from snnconvert.site_thresholds import potentials_of


class Net(nn.Module):
    """Two convolutions, and what is done with them."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.c, self.head = (
            nn.Conv2d(3, 16, 3),
            nn.Conv2d(3, 16, 3),
            nn.Conv2d(32, 8, 3),
            nn.Linear(8, 4),
        )
        self.function = function

    def forward(self, x):
        return self.head(F.relu(self.c(self.function(self.a(x), self.b(x)))).mean((2, 3)))


def converted(function, images, **settings):
    torch.manual_seed(0)
    config = snnconvert.ConversionConfig(**{"function_grid": "bytes", **settings})
    return snnconvert.convert(Net(function).eval(), images, config, progress=False)


def images_of(count):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_float_noise_changes_no_table():
    values = torch.randn(8, 2000, generator=torch.Generator().manual_seed(0))
    tables = []
    for noise in (0.0, 1e-7):
        histogram = ValueHistogram()
        histogram.update(torch.cat([values, values.amax().mul(1 + noise).expand(8, 1)], 1))
        seen = potentials_of(histogram)
        tables.append(byte_table(F.gelu, 0.02, PackedCode(2, 4, offset=9), 1.0, seen))
    assert tables[0][:2] == tables[1][:2]
    assert torch.equal(tables[0].values, tables[1].values)


def test_functions_whose_words_are_joined_tell_potentials_of_their_own_apart():
    def joined(a, b):
        return torch.cat([torch.sigmoid(0.3 * a), torch.sigmoid(20 * b)], 1)

    distinct = {}
    for grid in ("fine", "bytes"):
        snn, words = converted(joined, images_of(16), function_grid=grid), []
        dict(snn.neurons())["sigmoid"].register_forward_hook(lambda *call, words=words: words.append(call[-1]))
        snn(images_of(16))
        distinct[grid] = len(words[0].unique())
    assert distinct["bytes"] > 0.8 * distinct["fine"]


def test_potentials_may_be_infinite_where_the_function_is_not():
    hidden = torch.arange(196).reshape(14, 14) % 7 == 0

    def masked(a, b):
        return torch.cat([torch.sigmoid(a.masked_fill(hidden, float("-inf"))), F.relu(b)], 1)

    snn, images = converted(masked, images_of(16)), images_of(4)
    expected = converted(masked, images_of(16), function_grid="fine")(images)
    torch.testing.assert_close(snn(images), expected, rtol=0.0, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("settings", [{"threshold_granularity": "channel"}, {"potential_correction": True}], ids=str)
def test_layers_that_kernels_cannot_look_up_keep_the_fine_grid_and_are_named(settings):
    snn = converted(lambda a, b: torch.cat([F.silu(a), F.relu(b)], 1), images_of(16), **settings)
    (table,) = [module.table for module in snn.network.modules() if isinstance(module, TableTransfer)]
    assert len(table) > 256
    assert any("fine function grid" in note and "silu" in note for note in snn.report.notes)
    plain = converted(lambda a, b: torch.cat([F.silu(a), F.relu(b)], 1), images_of(16))
    assert not any("fine function grid" in note for note in plain.report.notes)
