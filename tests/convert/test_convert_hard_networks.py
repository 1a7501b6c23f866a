"""Networks that strain integers, scales and graphs; each is compared with the network it came from."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.neurons.synapse import Synapse

X = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def conv(inputs=8, outputs=8, kernel=3):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def converted(net, images=X, **settings):
    torch.manual_seed(0)
    return snnconvert.convert(net, images, snnconvert.ConversionConfig(**settings), progress=False)


def sqnr(net, snn, images=X):
    with torch.no_grad():
        expected, actual = net(images), snn(images)
    return float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum()))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def residual(scale):
    net = Net(lambda n, x: n.h(F.relu(n.a(r := F.relu(n.s(x))) + n.b(r))), s=conv(3), a=conv(), b=conv(), h=conv(8, 4))
    with torch.no_grad():
        net.b.weight[:4] *= scale
        net.b.bias[:4] = 0
    return net


@pytest.mark.parametrize("scale", mostly_slow([1e-3, 1e-6, 1e-9, 1e-20, 1e-38], keep=[1e-3, 1e-20]))
def test_a_branch_of_tiny_weights_costs_nothing(scale):
    net = residual(scale)
    assert sqnr(net, converted(net)) > 30


def test_the_same_spikes_twice_in_one_tensor():
    net = Net(
        lambda n, x: n.h(F.relu(torch.cat([r := F.relu(n.s(x)), n.a(r), r], 1) + n.b(r))),
        s=conv(3), a=conv(), b=conv(8, 24), h=conv(24, 4),
    )  # fmt: skip
    with torch.no_grad():
        net.b.weight[:8] *= 5
        net.b.weight[16:] *= 0.01
    assert sqnr(net, converted(net)) > 28


@pytest.mark.parametrize("cap", mostly_slow([1.0, 6.0], keep=[1.0]))
def test_a_cap_holds_where_its_spikes_meet_uncapped_ones(cap):
    net = Net(
        lambda n, x: n.h(torch.cat([F.relu(10 * n.a(x)), F.hardtanh(10 * n.b(x), 0.0, cap)], 1)),
        a=conv(3), b=conv(3), h=conv(16, 4),
    )  # fmt: skip
    assert sqnr(net, converted(net)) > 28


def test_a_pruned_channel_keeps_its_large_bias():
    net = nn.Sequential(conv(3), nn.ReLU(), conv(8, 4))
    with torch.no_grad():
        net[0].weight[0] = 0
        net[0].bias[0] = -1e5
    assert sqnr(net, converted(net)) > 30


@pytest.mark.parametrize("gamma", mostly_slow([0.0, 1e-44, 1e-40, 1e-20, -1e-41], keep=[0.0, 1e-40]))
def test_a_normalization_that_nearly_vanishes(gamma):
    net = Net(
        lambda n, x: n.h(F.relu(n.bn(n.a(r := F.relu(n.s(x))) + r))),
        s=conv(3),
        a=conv(),
        bn=nn.BatchNorm2d(8),
        h=conv(8, 4),
    ).eval()
    with torch.no_grad():
        net.bn.weight[2] = gamma
        net.bn.bias[2] = 0.5
    assert sqnr(net, converted(net)) > 28


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_values_far_from_one(scale):
    net = nn.Sequential(conv(3), nn.ReLU(), conv(8, 4))
    for layer in (net[0], net[2]):
        nn.init.zeros_(layer.bias)
    assert sqnr(net, converted(net, X * scale), X * scale) > 30


def counts(snn, images):
    """Largest |count| of every addition between integers, and the type it was summed in."""
    found = []

    class Watch(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if n.target is torch.ops.aten.add.Tensor:
                found.append((float(value.abs().max()), value.dtype))
            return value

    with torch.no_grad():
        Watch(snn.network).run(images)
    return found


def test_a_current_that_is_added_to_itself_stays_exact():
    net = Net(
        lambda n, x: n.h(F.relu((c := n.b(F.relu(n.s(x)))) + c + c + c + c)),
        s=conv(3, 512),
        b=conv(512, 8),
        h=conv(8, 4),
    )
    with torch.no_grad():
        net.b.weight.abs_()
        net.s.weight.abs_()
    images = X[:4].abs() + 1
    snn = converted(net, images)
    found = counts(snn, images)
    assert len(found) == 4
    assert max(size for size, _ in found) > 1 << 24
    assert all(dtype == torch.float64 for size, dtype in found if size > 1 << 24)


def test_loading_rebuilds_the_same_parts(tmp_path):
    """After the bias correction no reserve is left, so a saved synapse splits its sums as it did before."""
    snn = converted(nn.Sequential(conv(3, 64), nn.ReLU(), conv(64, 8), nn.Flatten(), nn.Linear(8 * 144, 5)))
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    pairs = list(zip(snn.synapses(), loaded.synapses(), strict=True))
    assert pairs
    for (_, before), (_, after) in pairs:
        assert isinstance(before, Synapse)
        assert torch.equal(before.bound(), after.bound())
        assert before._part_count == after._part_count
    assert torch.equal(snn(X), loaded(X))


def test_parameters_with_numbers_for_names_are_saved(tmp_path):
    net = nn.Sequential(conv(3), nn.PReLU(8), conv(8, 4))
    snn = converted(net)
    snn.save(tmp_path / "net")
    assert torch.equal(snnconvert.load(tmp_path / "net")(X), snn(X))


@pytest.mark.parametrize(
    "function",
    [lambda y: F.max_pool1d(y.flatten(2), 2), lambda y: F.max_pool1d(y.flatten(2).transpose(1, 2), 2)],
    ids=["positions", "channels"],
)
def test_pools_over_any_axis(function):
    net = Net(lambda n, x: n.h(function(F.relu(n.s(x))).flatten(1)), s=conv(3), h=nn.Linear(8 * 72, 4))
    assert sqnr(net, converted(net)) > 28


def test_one_number_an_image():
    net = nn.Sequential(conv(3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 1), nn.Flatten(0))
    assert sqnr(net, converted(net)) > 28


def test_models_that_return_nan_are_told_so():
    net = Net(lambda n, x: n.s(x).log(), s=conv(3))
    with pytest.raises(snnconvert.ConversionError, match="NaN"):
        converted(net)


def test_a_pool_with_a_divisor_of_its_own_stays_right():
    """Its windows hold more elements than its divisor says, so no bound may come from the divisor."""
    net = Net(
        lambda n, x: n.h(F.relu(F.avg_pool2d(n.s(x), 12, divisor_override=1))), s=conv(3, 16), h=nn.Conv2d(16, 4, 1)
    )
    snn = converted(net)
    assert [item.op for item in snn.plan.analog] == ["avg_pool2d"]
    assert sqnr(net, snn) > 28


def test_values_too_rare_to_be_counted_still_fire():
    net = Net(lambda n, x: n.h(F.relu(n.s(x))), s=nn.Conv2d(1, 1, 1), h=nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        net.s.weight.fill_(1.0)
        net.s.bias.zero_()
    images = torch.full((4, 1, 200, 200), -1.0)
    images[:, :, 0, 1] = 2.5
    assert sqnr(net, converted(net, images), images) > 28


def test_everything_analog_but_one_layer():
    net = nn.Sequential(conv(3), nn.ReLU(), conv(8, 4))
    snn = converted(net, overrides={".*": {"analog": True}, "2": {"analog": False}})
    assert [item.layer for item in snn.plan.synapses] == ["2"]


def test_tensors_made_inside_the_network_are_constants():
    net = Net(lambda n, x: n.h(F.relu(n.s(x)) + torch.arange(12.0)), s=conv(3), h=conv(8, 4))
    snn = converted(net)
    assert not any(node.target is torch.ops.aten.arange.default for node in snn.network.graph.nodes)
    assert sqnr(net, snn) > 28
