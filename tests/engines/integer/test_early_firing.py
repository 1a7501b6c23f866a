"""Neurons that fire before what they read is moved: which do, and that their words stay the same."""

import onnx
import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, converted
from integer_networks import compared
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.integer.dialect import ONNXRUNTIME
from snnconvert.engines.integer.early_firing import early_firings
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.neurons.current import ToReal


def split(forward, width=12):
    torch.manual_seed(0)
    parts = {
        "first": nn.Linear(6, width),
        "norm": nn.LayerNorm(width),
        "up": nn.Linear(width // 2, 7),
        "down": nn.Linear(width // 2, 7),
    }
    net = Net(lambda n, x: forward(n, n.first(x)), **parts).eval()
    with torch.no_grad():
        net.first.weight[: width // 2] *= 8  # the halves need steps of their own
        net.norm.weight[: width // 2] *= 8
    return snnconvert.convert(net, torch.randn(32, 5, 6), progress=False), torch.randn(4, 5, 6)


def halves(n, x):
    low, high = x.reshape(*x.shape[:2], 2, 6).permute(2, 0, 1, 3).unbind(0)
    return n.up(low) + n.down(high)


def normalized(n, x):
    return halves(n, n.norm(x))


def in_parts(n, x):
    low, high = x.unsqueeze(1).permute(0, 2, 1, 3).split([6, 6], dim=3)
    return n.up(low) + n.down(high)


def in_chunks(n, x):
    low, high = x.unsqueeze(1).transpose(1, 2).chunk(2, -1)
    return n.up(low) + n.down(high)


def one_half(n, x):
    return n.up(x[:, :, :6].transpose(1, 2).transpose(1, 2))


def overlapping(n, x):
    return n.up(x[:, :, :6].contiguous()) + n.down(x[:, :, 3:9].contiguous())


def also_read_as_it_is(n, x):
    low, high = x.chunk(2, -1)
    return n.up(low) + n.down(high) + x.mean(-1, keepdim=True)


def test_neurons_of_all_parts_fire_at_their_source_with_a_gain_for_each_place():
    snn, images = split(normalized)
    ((source, firing),) = early_firings(snn.network, snn.signature, ONNXRUNTIME).items()
    assert len(firing.neurons) == 2
    gains = [snn.network.get_submodule(str(neuron.target)).gain for neuron in firing.neurons]
    assert gains[0] != gains[1]
    assert torch.equal(firing.gain, torch.cat([gain.expand(6) for gain in gains]))
    assert source.target is torch.ops.aten.layer_norm.default
    found = compared(snn, images, "onnxruntime")
    assert found.differing == {}
    torch.testing.assert_close(found.output, found.expected, rtol=1e-6, atol=1e-6)


def test_currents_fire_in_the_kernel_that_makes_them():
    snn, _ = split(halves)
    ((source, firing),) = early_firings(snn.network, snn.signature, ONNXRUNTIME).items()
    assert isinstance(snn.network.get_submodule(source.target), ToReal)
    assert firing.gain == 1
    assert {found.kind for found in snn.compile("onnxruntime", cache=False).float_operations()} <= {"Mul", "Add"}


@pytest.mark.parametrize(
    "forward", mostly_slow([one_half, overlapping, also_read_as_it_is], keep=[one_half, also_read_as_it_is])
)
def test_what_is_left_out_shared_or_read_by_others_is_moved_first(forward):
    snn, images = split(forward)
    assert not any("first" in str(source.target) for source in early_firings(snn.network, snn.signature, ONNXRUNTIME))
    assert compared(snn, images, "onnxruntime").differing == {}


@pytest.mark.parametrize("forward", [halves, in_parts, in_chunks])
def test_bytes_are_moved(forward):
    snn, images = split(forward)
    assert compared(snn, images, "onnxruntime").differing == {}
    model = integer_model(snn.network, snn.signature, ONNXRUNTIME).model
    types = {item.name: item.type.tensor_type.elem_type for item in model.graph.value_info}
    moves = [node.output[0] for node in model.graph.node if node.op_type in ("Transpose", "Slice", "Squeeze")]
    moved = [types[name] for name in moves if name in types]
    assert onnx.TensorProto.UINT8 in moved
    assert onnx.TensorProto.FLOAT not in moved


def test_neurons_of_other_zero_points_fire_where_they_are():
    snn, _ = converted("attention")
    offsets = {neuron.code.offset for name, neuron in snn.neurons() if "getitem" in name or "transpose" in name}
    assert len(offsets) > 1
    assert not any("qkv" in str(node.target) for node in early_firings(snn.network, snn.signature, ONNXRUNTIME))


class TokenMlp(nn.Module):
    """PVTv2's: a depthwise convolution of tokens between linear layers, and a function behind it."""

    def __init__(self, function):
        super().__init__()
        self.stem, self.up, self.down = nn.Conv2d(3, 8, 1), nn.Linear(8, 16), nn.Linear(16, 5)
        self.depthwise, self.function = nn.Conv2d(16, 16, 3, padding=1, groups=16), function

    def forward(self, x):
        tokens = self.up(F.relu(self.stem(x)).flatten(2).transpose(1, 2))
        planes = self.depthwise(tokens.transpose(1, 2).unflatten(2, (6, 6)))
        return self.down(self.function(planes.flatten(2).transpose(1, 2))).mean(1)


@pytest.mark.parametrize("settings", [{}, {"residuals": "spikes"}, {"threshold_granularity": "channel"}], ids=str)
@pytest.mark.parametrize("grid", ["fine", "bytes"])
@pytest.mark.parametrize("function", [F.gelu, F.silu, F.relu, F.hardswish])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_no_word_differs_behind_convolutions_of_tokens(engine, function, grid, settings):
    pytest.importorskip(engine)
    torch.manual_seed(0)
    images = torch.randn(16, 3, 6, 6)
    config = snnconvert.ConversionConfig(function_grid=grid, **settings)
    snn = snnconvert.convert(TokenMlp(function).eval(), images, config, progress=False)
    found = compared(snn, images, engine)
    assert found.differing == {}
    torch.testing.assert_close(found.output, found.expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", [F.gelu, F.silu, F.relu])
def test_positions_fire_in_convolutions_of_tokens(function):
    torch.manual_seed(0)
    config = snnconvert.ConversionConfig(function_grid="bytes")
    snn = snnconvert.convert(TokenMlp(function).eval(), torch.randn(16, 3, 6, 6), config, progress=False)
    kinds = {found.kind for found in snn.compile("onnxruntime", cache=False).float_operations()}
    assert kinds.isdisjoint({"Conv", "Round"})


def test_parts_of_images_of_any_size_have_gains_of_their_own():
    def forward(n, x):
        y = n.a(x).permute(0, 2, 3, 1)
        return n.b(y[:, :, :8]).mean((1, 2)) + n.c(y[:, :, 8:]).mean((1, 2))

    torch.manual_seed(0)
    net = Net(forward, a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Linear(8, 4), c=nn.Linear(8, 4)).eval()
    images = torch.randn(8, 3, 16, 16)
    images[..., :8] *= 0.1
    snn = snnconvert.convert(net, images, snnconvert.ConversionConfig(dynamic_sizes=True), progress=False)
    fast = snn.compile("onnxruntime", threads=1, cache=False)
    for size in (16, 24):
        others = torch.randn(4, 3, size, size)
        torch.testing.assert_close(fast(others), snn(others), rtol=1e-6, atol=1e-6)
