"""Normalized shortcuts are depthwise convolutions: the same values, weights without error, nothing analog."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical
from pass_checks import check
from torch import nn

import snnconvert
from snnconvert import ConversionConfig
from snnconvert.convert.ops import OpKind, channel_affine, kind_of

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def settled(net):
    """Statistics and scales as training leaves them."""
    torch.manual_seed(5)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, -1.5, 1.5), nn.init.normal_(module.bias)
    return net.eval()


def rep_vgg(channels=6):
    """Two blocks of a 3 x 3 convolution, a 1 x 1 convolution and a shortcut, each normalized."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        for block in net.blocks:
            x = F.relu(block["large"](x) + block["small"](x) + block["identity"](x))
        return net.head(x.mean((2, 3)))

    def branch(size):
        return nn.Sequential(
            nn.Conv2d(channels, channels, size, padding=size // 2, bias=False), nn.BatchNorm2d(channels)
        )

    parts = {"large": lambda: branch(3), "small": lambda: branch(1), "identity": lambda: nn.BatchNorm2d(channels)}
    blocks = nn.ModuleList(nn.ModuleDict({name: make() for name, make in parts.items()}) for _ in range(2))
    stem, head = nn.Conv2d(3, channels, 3, padding=1), nn.Linear(channels, 4)
    return settled(Net(forward, stem=stem, blocks=blocks, head=head))


def affines(graph):
    return [node for node in graph.graph.nodes if node.target is channel_affine]


def test_normalized_shortcuts_are_synapses():
    net = rep_vgg()
    graph = canonical(net, X[:2])
    check(graph, net, X)
    assert affines(graph) == []
    snn = snnconvert.convert(net, [X], ConversionConfig(), progress=False)
    assert snn.plan.analog == ()
    assert "blocks.1.identity" in dict(snn.synapses())


@pytest.mark.parametrize("weight_bits", [8, 4, 2])
def test_their_weights_lose_nothing(weight_bits):
    net = rep_vgg()
    snn = snnconvert.convert(net, [X], ConversionConfig(weight_bits=weight_bits), progress=False)
    norm, synapse = net.blocks[0]["identity"], dict(snn.synapses())["blocks.0.identity"]
    step = float(dict(snn.neurons())["relu"].step)
    given = (norm.weight / (norm.running_var + norm.eps).sqrt()).double() * step
    got = synapse.weight.flatten().double() * synapse.unit * synapse.multiplier
    torch.testing.assert_close(got, given, rtol=0, atol=5e-3 * float(given.abs().max()))


@pytest.mark.parametrize(
    ("norm", "x"), [(nn.BatchNorm1d, torch.randn(4, 3, 9)), (nn.BatchNorm3d, torch.randn(4, 3, 4, 4, 4))]
)
def test_in_other_ranks(norm, x):
    conv = {nn.BatchNorm1d: nn.Conv1d, nn.BatchNorm3d: nn.Conv3d}[norm]
    net = settled(
        Net(lambda n, x: n.a(F.relu(n.stem(x))) + n.norm(F.relu(n.stem(x))), stem=conv(3, 3, 1), a=conv(3, 3, 1),
            norm=norm(3, affine=False))
    )  # fmt: skip
    graph = canonical(net, x)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), net(x))
    assert affines(graph) == []


def test_shortcuts_of_linear_layers_stay():
    net = settled(
        Net(lambda n, x: n.a(F.relu(x)) + n.norm(F.relu(x)), a=nn.Linear(6, 6), norm=nn.BatchNorm1d(6))
    )  # fmt: skip
    assert len(affines(canonical(net, torch.randn(4, 6)))) == 1


def test_norms_that_rectifiers_take_over_stay():
    net = settled(Net(lambda n, x: F.relu(n.norm(F.relu(n.a(x)))), a=nn.Conv2d(3, 6, 1), norm=nn.BatchNorm2d(6)))
    assert len(affines(canonical(net, X[:2]))) == 1


def test_norms_of_sums_that_no_neuron_fires_stay():
    net = settled(
        Net(lambda n, x: n.norm(n.a(x) + n.b(x)) + n.c(x), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(3, 6, 1),
            c=nn.Conv2d(3, 6, 1), norm=nn.BatchNorm2d(6))
    )  # fmt: skip
    assert len(affines(canonical(net, X[:2]))) == 1


def test_norms_of_what_synapses_read_are_synapses():
    def forward(net, x):
        x = net.a(x) + net.b(x)
        return net.norm(x) + net.c(x)

    convolutions = {"a": nn.Conv2d(3, 6, 1), "b": nn.Conv2d(3, 6, 1), "c": nn.Conv2d(6, 6, 1)}
    net = settled(Net(forward, **convolutions, norm=nn.BatchNorm2d(6)))
    graph = canonical(net, X[:2])
    check(graph, net, X)
    assert affines(graph) == []


def test_sums_that_begin_with_0_have_no_operator_for_it():
    net = Net(lambda n, x: 0 + n.a(x) + n.b(x), a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1))
    graph = canonical(net, X[:2])
    check(graph, net, X)
    assert [kind_of(node) for node in graph.graph.nodes if node.op == "call_function"].count(OpKind.ADD) == 1


def test_numbers_that_change_the_type_stay():
    net = Net(lambda n, x: ((x > 0) + 0) + x)
    graph = canonical(net, X[:2])
    with torch.no_grad():
        assert torch.equal(graph(X[:2]), net(X[:2]))
