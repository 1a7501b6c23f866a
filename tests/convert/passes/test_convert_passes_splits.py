"""Parts of splits are slices: exactly the same values, and currents stay integers."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical, count, plan_of
from pass_checks import check
from torch import nn

import snnconvert
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import capture_call

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def sizes(n, x):
    first, _, last = n.front(x).split([2, 1, 5], 1)
    return torch.cat([n.part(first), last], -3)


def one_size(n, x):
    return torch.cat([n.part(part[:, :2]) for part in n.front(x).split(3, -3)], 1)


def chunks(n, x):
    left, right = n.front(x).chunk(2, dim=1)
    return torch.cat([left * 0.5, n.part(right[:, ::2])], 1)


def unsafe(n, x):
    return torch.cat([n.part(part) for part in torch.unsafe_chunk(n.front(x), 4, 1)], 1)


def rows(n, x):
    return torch.cat([n.part(part[:, :2]) for part in n.front(x).split(2, 2)], 3)


@pytest.mark.parametrize("cut", [sizes, one_size, chunks, unsafe, rows], ids=lambda cut: cut.__name__)
def test_parts_are_slices(cut):
    net = network(cut)
    graph = canonical(net, X)
    assert count(graph, "split", "chunk", "getitem") == 0
    check(graph, net, X)


@pytest.mark.parametrize("cut", [sizes, unsafe], ids=lambda cut: cut.__name__)
def test_parts_of_currents_are_currents(cut):
    net = network(cut)
    assert plan_of(net, X).analog == ()
    snn = snnconvert.convert(net, X, progress=False)
    assert torch.equal(snn.simulate(X).output, snn(X))


def test_parts_of_unknown_sizes_are_left_as_they_are():
    net = network(lambda n, x: torch.cat([n.part(part[:, :2]) for part in n.front(x).chunk(2, 2)], 3))
    captured = capture_call(net, X, sizes="dynamic")
    assert captured.note == ""
    graph = canonicalize(captured.graph)
    assert count(graph, "split", "chunk") == 1
    for images in (X, torch.cat([X, X], 2)):
        torch.testing.assert_close(graph(images), net(images))


def network(cut):
    torch.manual_seed(0)
    net = Net(
        lambda n, x: n.fc(F.relu(cut(n, x)).mean((2, 3))),
        front=nn.Conv2d(3, 8, 3, padding=1), part=nn.Conv2d(2, 2, 3, padding=1), fc=nn.LazyLinear(5),
    )  # fmt: skip
    net(X)
    return net
