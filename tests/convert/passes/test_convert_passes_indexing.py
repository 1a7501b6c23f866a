"""Picking by constant positions moves values and computes none: exactly index_select, whatever it was written as."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical
from pass_checks import check, targets
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert import ConversionConfig
from snnconvert.errors import ConversionError

X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(3))
ORDER = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
PICKS = {
    "index_select": lambda x: torch.index_select(x, 1, ORDER),
    "index": lambda x: x[:, ORDER],
    "negative": lambda x: x[:, [-1, 0, -2, 1]],
    "mask": lambda x: x[:, ORDER > 3],
    "rows and columns": lambda x: x[:, :, [5, 4, 3, 2, 1, 0]][..., [0, 0, 1]],
    "repetitions": lambda x: x.repeat_interleave(torch.tensor([1, 2, 0, 1, 1, 1, 3, 1]), 1),
    "gather": lambda x: x.gather(1, ORDER.view(1, 8, 1, 1).expand(x.shape[0], 8, 6, 6)),
    "flip": lambda x: x.flip(1),
}


def sqnr(expected, actual):
    return float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum()))


@pytest.mark.parametrize("name", mostly_slow(PICKS, keep=["index", "mask", "repetitions", "gather", "flip"]))
@pytest.mark.parametrize("activation", mostly_slow([F.relu, F.silu], keep=[F.relu]))
def test_spikes_are_picked_by_position(name, activation):
    with torch.no_grad():
        channels, *_, columns = PICKS[name](torch.zeros(1, 8, 6, 6)).shape[1:]
    net = Net(
        lambda n, x: n.b(PICKS[name](activation(n.a(x)))).flatten(1),
        a=nn.Conv2d(3, 8, 3, padding=1),
        b=nn.Conv2d(channels, 4, (1, columns)),
    )
    check(canonical(net, X), net, X)
    snn = snnconvert.convert(net, X, ConversionConfig(), progress=False)
    assert snn.plan.analog == ()
    assert [site.origin for site in snn.plan.sites] == ["input", "activation"]
    with torch.no_grad():
        assert sqnr(net(X), snn(X)) > 30
        assert torch.equal(snn.simulate(X).output, snn(X))


@pytest.mark.parametrize("dim", mostly_slow([1, -1], keep=[-1]))
@pytest.mark.parametrize("repetitions", [[2], [1, 0, 3, 1, 2, 1]])
def test_repetitions_of_one_number_and_of_many(dim, repetitions):
    count = torch.tensor(repetitions)
    total = 6 * repetitions[0] if len(repetitions) == 1 else sum(repetitions)
    net = Net(
        lambda n, x: torch.repeat_interleave(F.relu(n.a(x)), n.count, dim=dim, output_size=total).flatten(1),
        a=nn.Conv2d(3, 6, 3, padding=1),
        count=nn.Buffer(count),
    )
    images = torch.randn(3, 3, 6, 6)
    check(canonical(net, images), net, images)


def test_positions_from_data_pick_real_values():
    net = Net(
        lambda n, x: n.b(torch.gather(y := F.relu(n.a(x)).flatten(1), 1, y.topk(10, 1).indices)),
        a=nn.Conv2d(3, 8, 3),
        b=nn.Linear(10, 4),
    )
    snn = snnconvert.convert(net, X, progress=False)
    assert {item.op for item in snn.plan.analog} == {"topk", "gather"}
    assert snn.plan.coverage == 1.0
    with torch.no_grad():
        assert torch.equal(snn.simulate(X).output, snn(X))
        assert sqnr(net(X), snn(X)) > 25


def test_pools_without_their_indices():
    net = Net(lambda n, x: F.max_pool2d(n.a(x), 2, return_indices=True)[0], a=nn.Conv2d(3, 8, 3))
    graph = canonical(net, X)
    check(graph, net, X)
    assert targets(graph) == ["conv2d", "max_pool2d"]


def test_sizes_that_depend_on_data_are_refused():
    net = Net(lambda n, x: x[:, :, (x[0, 0] > 0).any(1)].sum((2, 3)) + n.a(x).sum((2, 3)), a=nn.Conv2d(3, 3, 3))
    with pytest.raises(ConversionError):
        canonical(net, X)
