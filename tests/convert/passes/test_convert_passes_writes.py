"""What a network writes into parts of a tensor is a concat: exactly the same values, and spikes all the same."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical, count
from pass_checks import check, targets
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert import ConversionConfig

X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def added_to_all(net, x):
    x = x[:, :]
    x += net.other(x)
    return x


def added_to_some(net, x):
    x = x.clone()
    x[:, 2:5] += net.part(x[:, :3])
    return x


def assigned_first(net, x):
    x = x.clone()
    x[:, :3] = net.part(x[:, :3])
    return x


def assigned_last(net, x):
    x = x.clone()
    x[:, -3:] = net.part(x[:, -3:])
    return x


def one_channel(net, x):
    x = x.clone()
    x[:, -2] = F.relu(net.part(x[:, :3]))[:, 1]
    return x


def one_row_of_all(net, x):
    x = x.clone()
    x[:, :, 1] = F.relu(net.part(x[:, :3]))[:, :1, 2]
    return x


def rows_and_columns(net, x):
    x = x.clone()
    x[:, 1:3, 2:, :4] += 0.5
    return x


def nothing(net, x):
    x = x.clone()
    x[:, 5:3] = net.part(x[:, :3])[:, :0]
    return x


def with_itself(net, x):
    x[:, :] = x
    return x


WRITES = [
    added_to_all, added_to_some, assigned_first, assigned_last, one_channel, one_row_of_all, rows_and_columns,
    nothing, with_itself,
]  # fmt: skip


def network(write):
    torch.manual_seed(0)
    return Net(
        lambda net, x: net.fc(F.relu(net.behind(write(net, F.relu(net.front(x))))).mean((2, 3))),
        front=nn.Conv2d(3, 8, 3, padding=1),
        other=nn.Conv2d(8, 8, 3, padding=1),
        part=nn.Conv2d(3, 3, 3, padding=1),
        behind=nn.Conv2d(8, 8, 3, padding=1),
        fc=nn.Linear(8, 10),
    )


MOST = mostly_slow(WRITES, keep=[added_to_some, one_channel, nothing, with_itself])


@pytest.mark.parametrize("write", MOST, ids=lambda write: write.__name__)
def test_writes_are_concats(write):
    net = network(write)
    graph = canonical(net, X)
    assert count(graph, "scatter", "copy") == 0
    check(graph, net, X)
    snn = snnconvert.convert(net, X, ConversionConfig(), progress=False)
    with torch.no_grad():
        expected, actual = net(X), snn(X)
        assert float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum())) > 25
        assert torch.equal(snn.simulate(X).output, actual)


def test_nothing_is_joined_where_all_is_written():
    assert "cat" not in targets(canonical(network(added_to_all), X))


def test_channels_written_by_a_convolution_stay_spikes():
    assert snnconvert.convert(network(assigned_first), X, progress=False).plan.analog == ()


def test_steps_are_left_as_they_are():
    def every_other(net, x):
        x = x.clone()
        x[:, ::2] += 1.0
        return x

    net = network(every_other)
    graph = canonical(net, X)
    assert count(graph, "scatter") > 0
    check(graph, net, X)
