"""Kernels computed per sample, folded into the groups of one convolution: a product of two activations per sample."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical, plan_of
from pass_checks import check, targets
from slow_cases import mostly_slow
from torch import nn

X = torch.randn(5, 4, 7, 6, generator=torch.Generator().manual_seed(3))


def conditional(groups=1, bias=False, **options):
    def forward(n, x):
        batch, channels, height, width = x.shape
        routing = torch.sigmoid(n.route(x.mean((2, 3))))
        kernels = (routing @ n.kernels.weight.t()).reshape(batch * 6, channels // groups, 3, 3)
        shift = n.shift(routing).flatten() if bias else None
        y = F.conv2d(x.reshape(1, -1, height, width), kernels, shift, groups=batch * groups, **options)
        return y.reshape(batch, 6, *y.shape[2:])

    size = 6 * (4 // groups) * 9
    return Net(forward, route=nn.Linear(4, 3), kernels=nn.Linear(3, size, bias=False), shift=nn.Linear(3, 6))


@pytest.mark.parametrize("groups", mostly_slow([1, 2], keep=[2]))
@pytest.mark.parametrize("bias", mostly_slow([False, True], keep=[True]))
@pytest.mark.parametrize(
    "options",
    mostly_slow(
        [{"padding": 1}, {"stride": 2, "padding": (1, 0)}, {"dilation": 2, "padding": "same"}],
        keep=[{"stride": 2, "padding": (1, 0)}],
    ),
)
def test_kernels_per_sample(groups, bias, options):
    net = conditional(groups, bias, **options)
    graph = canonical(net, X)
    check(graph, net, X)
    assert "conv2d" not in targets(graph)
    plan = plan_of(net, X)
    assert plan.coverage == 1.0
    with torch.no_grad():
        rows, columns = net(X).shape[2:]
    (product,) = [item for item in plan.synapses if item.op == "matmul"]
    assert product.macs == 6 * rows * columns * (4 // groups) * 9


def test_depthwise_kernels_per_sample():
    def forward(n, x):
        kernels = n.kernels(x.mean((2, 3))).view(-1, 1, 3, 3)
        y = F.conv2d(x.view(1, -1, 7, 6), kernels, padding=1, groups=4 * x.shape[0])
        return y.view(-1, 4, 7, 6)

    net = Net(forward, kernels=nn.Linear(4, 36))
    graph = canonical(net, X)
    check(graph, net, X)
    assert plan_of(net, X).coverage == 1.0


def test_computed_kernels_with_named_padding():
    net = Net(lambda n, x: F.conv2d(x, n.kernels(n.code.weight).view(3, 4, 3, 3), padding="same"),
              kernels=nn.Linear(2, 108), code=nn.Embedding(1, 2))  # fmt: skip
    check(canonical(net, X), net, X)
    assert plan_of(net, X).coverage == 1.0


def test_kernels_per_sample_over_one_dimension():
    def forward(n, x):
        kernels = n.kernels(x.mean(2)).view(-1, 2, 3)
        return F.conv1d(x.reshape(1, -1, 9), kernels, stride=2, padding=1, groups=2 * x.shape[0]).view(-1, 6, 5)

    net, x = Net(forward, kernels=nn.Linear(4, 36)), torch.randn(5, 4, 9)
    check(canonical(net, x), net, x)
    assert plan_of(net, x).coverage == 1.0


def test_kernels_per_sample_over_three_dimensions_are_refused():
    def forward(n, x):
        kernels = n.kernels(x.mean((2, 3, 4))).view(-1, 1, 1, 1, 1)
        return n.a(F.conv3d(x.reshape(1, -1, 2, 2, 2), kernels, groups=4 * x.shape[0]).view(-1, 4, 2, 2, 2))

    net, x = Net(forward, kernels=nn.Linear(4, 4), a=nn.Conv3d(4, 2, 1)), torch.randn(5, 4, 2, 2, 2)
    (convolution,) = [item for item in plan_of(net, x).analog if item.op == "conv3d"]
    assert convolution.reason == "convolution whose groups depend on the batch"
