"""Words that concats join: as bytes, and outputs in the runtimes are the packed network's."""

import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, conv
from torch import nn

import snnconvert
from snnconvert.engines.integer.dialect import ONNXRUNTIME, OPENVINO
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.joined_words import joined_words


def net(forward):
    layers = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 8), "d": conv(16, 8), "e": conv(24, 8), "f": conv(3, 16)}
    return Net(lambda n, x: n.head(F.relu(forward(n, x)).mean((2, 3))), **layers, head=nn.Linear(8, 5))


def two_functions(n, x):
    return n.d(torch.cat([F.silu(n.a(x)), F.mish(n.b(x))], 1))


def function_and_rectifier(n, x):
    return n.d(torch.cat([F.silu(n.a(x)), F.relu(n.b(x))], -3))


def rectifier_and_odd_function(n, x):
    return n.d(torch.cat([F.relu(n.a(x)), torch.tanh(n.b(x))], 1))


def also_convolved(n, x):
    a = F.silu(n.a(x))
    return n.c(a) + n.d(torch.cat([a, F.relu(n.b(x))], 1))


def also_averaged(n, x):
    a = F.silu(n.a(x))
    return n.d(torch.cat([a, F.relu(n.b(x))], 1)) + n.c(F.avg_pool2d(a, 3, 1, 1))


def enlarged(n, x):
    small = F.interpolate(F.silu(n.a(F.max_pool2d(x, 2))), scale_factor=2.0)
    return n.d(torch.cat([small, F.gelu(n.b(x))], 1))


def pooled(n, x):
    a = F.silu(n.a(x))
    once = F.max_pool2d(a, 3, 1, 1)
    return n.e(torch.cat([a, once, F.max_pool2d(once, 3, 1, 1)], 1))


def nested(n, x):
    a, b = F.silu(n.a(x)), F.relu(n.b(x))
    inner = F.max_pool2d(torch.cat([a, b], 1), 3, 1, 1)
    return n.e(torch.cat([inner, F.elu(n.c(a))], 1)) + n.d(inner)


def along_rows(n, x):
    return n.c(torch.cat([F.silu(n.a(x)), F.relu(n.b(x))], 2))


def rolled(n, x):
    return n.c(torch.roll(F.silu(n.a(x)), (2, 3), (2, 3)))


def multiplied(n, x):
    a = torch.cat([F.silu(n.a(x)), torch.tanh(n.b(x))], 1).flatten(2)
    return n.d((a @ (a.transpose(1, 2) @ a)).unflatten(2, (8, 8)))


def cross_stage(n, x):
    first, second = F.silu(n.f(x)).chunk(2, 1)
    return n.d(torch.cat([first + F.silu(n.c(first)), second], 1))


def leaky_cross_stage(n, x):
    first, second = F.leaky_relu(n.f(x)).chunk(2, 1)
    return n.d(torch.cat([F.leaky_relu(n.c(first) + first), second], 1))


def sliced(n, x):
    joined = torch.cat([F.silu(n.a(x)), F.relu(n.b(x))], 1)
    return n.c(joined[:, 4:12]) + n.d(F.pad(joined, (1, 0, 1, 0)))[..., 1:, 1:]


def shuffled(n, x):
    joined = torch.cat([F.silu(n.a(x)), F.relu(n.b(x))], 1)
    mixed = joined.unflatten(1, (2, 8)).transpose(1, 2).flatten(1, 2)
    return n.e(torch.cat([mixed, F.silu(n.c(F.relu(n.b(x))))], 1))


def along_the_batch(n, x):
    both = n.c(torch.cat([F.silu(n.a(x)), F.relu(n.b(x))], 0))
    return both[: x.shape[0]] + both[x.shape[0] :]


def branches(n, x):
    joined = torch.cat([F.relu(n.a(x)), F.relu(n.b(x))], 1)
    return F.relu(n.d(joined)) + F.relu(n.d(F.max_pool2d(joined, 3, 1, 1)))


def skipped(n, x):
    """A step of a U-Net."""
    fine = F.relu(n.b(x))
    coarse = F.interpolate(F.relu(n.c(F.max_pool2d(fine, 2))), scale_factor=2.0)
    return n.d(torch.cat([fine, coarse], 1))


def shuffled_twice(n, x):
    """Two of ShuffleNet's units."""
    first, second = shuffled_channels(F.relu(n.a(x)), F.relu(n.b(x))).chunk(2, 1)
    first, second = shuffled_channels(first, F.relu(n.c(second))).chunk(2, 1)
    return n.d(torch.cat([first, second], 1))


def shuffled_channels(first, second):
    return torch.cat([first, second], 1).unflatten(1, (2, 8)).transpose(1, 2).flatten(1, 2)


def rectified_rows(n, x):
    """Words of different layers, whose rows become the batch."""
    rows = torch.cat([F.relu(n.a(x)), F.relu(n.b(x))], 2).transpose(0, 2)
    return n.c(rows.transpose(0, 2))


CONVOLVED = [
    two_functions, function_and_rectifier, rectifier_and_odd_function, also_convolved, enlarged, along_rows, rolled,
]  # fmt: skip
NETWORKS = [*CONVOLVED, also_averaged, pooled, nested, multiplied]
RECTIFIED = [branches, skipped, shuffled_twice, rectified_rows]
MIXED = [cross_stage, leaky_cross_stage, sliced, shuffled, along_the_batch]


def spiking(forward):
    torch.manual_seed(0)
    images = 2 * torch.randn(24, 3, 8, 8)
    config = snnconvert.ConversionConfig(bits=2, T=4)
    return snnconvert.convert(net(forward).eval(), images, config, progress=False), images


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("forward", [*NETWORKS, *MIXED, *RECTIFIED])
def test_outputs_are_the_same(forward, engine):
    pytest.importorskip(engine)
    snn, images = spiking(forward)
    found = snn.compile(engine, threads=1, cache=False)(images)
    torch.testing.assert_close(found, snn(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("forward", RECTIFIED)
def test_convolutions_of_joined_words_are_integer_kernels_in_onnxruntime(forward):
    snn, _ = spiking(forward)
    kinds = {found.kind for found in snn.compile("onnxruntime", threads=1, cache=False).float_operations()}
    assert "Conv" not in kinds
    assert "Concat" not in kinds


@pytest.mark.parametrize(
    ("forward", "dialect"), [*((each, OPENVINO) for each in NETWORKS), *((each, ONNXRUNTIME) for each in RECTIFIED)]
)
def test_concats_join_bytes(forward, dialect):
    snn, _ = spiking(forward)
    model = integer_model(snn.network, snn.signature, dialect).model
    read = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert concats
    assert not any(read.intersection(node.input) for node in concats)


@pytest.mark.parametrize("forward", NETWORKS)
def test_bytes_are_unsigned_where_only_convolutions_read_them(forward):
    snn, _ = spiking(forward)
    signs = set(joined_words(snn.network, snn.signature).signed.values())
    assert signs == {forward not in CONVOLVED}


def test_words_of_one_type_without_zero_points_are_left_alone():
    snn, _ = spiking(lambda n, x: n.d(torch.cat([F.relu(n.a(x)), F.relu(n.b(x))], 1)))
    found = joined_words(snn.network, snn.signature)
    assert (found.signed, found.carriers) == ({}, {})
