"""Neurons that fire before what they read is moved: which do, and that their words stay the same."""

import onnx
import pytest
import torch
from engine_networks import Net, converted
from integer_networks import compared
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.integer.dialect import ONNXRUNTIME
from snnconvert.engines.integer.early_firing import early_firings
from snnconvert.engines.integer.integer_model import integer_model


def split(forward, width=12):
    torch.manual_seed(0)
    parts = {"first": nn.Linear(6, width), "up": nn.Linear(width // 2, 7), "down": nn.Linear(width // 2, 7)}
    net = Net(lambda n, x: forward(n, n.first(x)), **parts).eval()
    with torch.no_grad():
        net.first.weight[: width // 2] *= 8  # the halves need steps of their own
    return snnconvert.convert(net, torch.randn(32, 5, 6), progress=False), torch.randn(4, 5, 6)


def halves(n, x):
    low, high = x.reshape(*x.shape[:2], 2, 6).permute(2, 0, 1, 3).unbind(0)
    return n.up(low) + n.down(high)


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
    snn, images = split(halves)
    ((source, firing),) = early_firings(snn.network, snn.signature).items()
    assert len(firing.neurons) == 2
    gains = [snn.network.get_submodule(str(neuron.target)).gain for neuron in firing.neurons]
    assert gains[0] != gains[1]
    assert torch.equal(firing.gain, torch.cat([gain.expand(6) for gain in gains]))
    assert "first" in str(source.target)
    found = compared(snn, images, "onnxruntime")
    assert found.differing == {}
    torch.testing.assert_close(found.output, found.expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "forward", mostly_slow([one_half, overlapping, also_read_as_it_is], keep=[one_half, also_read_as_it_is])
)
def test_what_is_left_out_shared_or_read_by_others_is_moved_first(forward):
    snn, images = split(forward)
    assert not any("first" in str(source.target) for source in early_firings(snn.network, snn.signature))
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
    assert not any("qkv" in str(node.target) for node in early_firings(snn.network, snn.signature))
