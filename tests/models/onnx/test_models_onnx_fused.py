"""Operators that onnxruntime fuses or computes dynamically, compared with onnxruntime."""

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper
from onnx_graphs import largest_difference, model_of, outputs_of, reference_outputs, value, write
from slow_cases import mostly_slow
from torch import Tensor

import snnconvert
from snnconvert.errors import ConversionError
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
MS = "com.microsoft"
TOLERANCE = 1e-5


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor(*shape: int, seed: int = 1) -> Tensor:
    return torch.from_numpy(random(*shape, seed=seed))


def assert_same(path, *inputs: Tensor, tolerance: float = TOLERANCE) -> None:
    for actual, expected in zip(outputs_of(path, *inputs), reference_outputs(path, *inputs), strict=True):
        assert largest_difference(actual, expected) <= tolerance


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", []), ("Sigmoid", []), ("Tanh", []), ("LeakyRelu", [0.2]), ("Clip", [0.0, 6.0]), ("Clip", [-0.5, 0.75]),
        ("HardSigmoid", [0.25, 0.5]),
    ],
)  # fmt: skip
def test_fused_convolutions(tmp_path, activation, parameters):
    more = {"activation_params": parameters} if parameters else {}
    node = helper.make_node("FusedConv", ["x", "w", "b"], ["y"], domain=MS, activation=activation, pads=[1] * 4, **more)
    constants = {"w": random(4, 3, 3, 3), "b": random(4)}
    assert_same(write(model_of([node], constants), tmp_path), tensor(1, 3, 8, 8))


def test_unknown_fused_activation(tmp_path):
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], domain=MS, activation="Sinc", name="c")
    with pytest.raises(ConversionError, match=r"FusedConv 'c' \(opset 1\): its fused activation 'Sinc'"):
        load_onnx(write(model_of([node], {"w": random(4, 3, 3, 3)}), tmp_path))


def test_fused_gemm_and_gelus(tmp_path):
    nodes = [
        helper.make_node("FusedGemm", ["x", "w", "b"], ["a"], domain=MS, activation="LeakyRelu", activation_alpha=0.1,
                         transB=1, alpha=0.5),
        helper.make_node("BiasGelu", ["a", "c"], ["g"], domain=MS),
        helper.make_node("FastGelu", ["g", "c"], ["h"], domain=MS),
        helper.make_node("FastGelu", ["h"], ["y"], domain=MS),
    ]  # fmt: skip
    constants = {"w": random(6, 5), "b": random(6, seed=2), "c": random(6, seed=3)}
    assert_same(write(model_of(nodes, constants, shape=[None, 5]), tmp_path), tensor(3, 5), tolerance=1e-4)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_packed_attention(tmp_path, masked, causal):
    node = helper.make_node(
        "Attention", ["x", "w", "b", "mask"][: 4 if masked else 3], ["y"], domain=MS, num_heads=2, unidirectional=causal
    )
    inputs = [value("x", [None, 5, 8]), value("mask", [None, 5], 6)][: 2 if masked else 1]
    path = write(model_of([node], {"w": random(8, 24), "b": random(24)}, inputs=inputs), tmp_path)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.int32)
    assert_same(path, tensor(2, 5, 8), *([mask] if masked else []))


def test_attention_with_lengths(tmp_path):
    node = helper.make_node("Attention", ["x", "w", "b", "lengths"], ["y"], domain=MS, num_heads=2)
    inputs = [value("x", [None, 5, 8]), value("lengths", [None], 6)]
    path = write(model_of([node], {"w": random(8, 24), "b": random(24)}, inputs=inputs), tmp_path)
    assert_same(path, tensor(2, 5, 8), torch.tensor([3, 5], dtype=torch.int32))


@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention(tmp_path, bias):
    names = ["q", "k", "v", "b" if bias else "", "", "added"]
    node = helper.make_node("MultiHeadAttention", names, ["y"], domain=MS, num_heads=2, scale=0.3)
    inputs = [value("q", [None, 5, 8]), value("k", [None, 7, 8]), value("v", [None, 7, 8])]
    constants = {"added": random(1, 2, 5, 7)} | ({"b": random(24)} if bias else {})
    path = write(model_of([node], constants, inputs=inputs), tmp_path)
    assert_same(path, tensor(2, 5, 8), tensor(2, 7, 8, seed=2), tensor(2, 7, 8, seed=3))


def test_embeddings_and_skips_with_their_norms(tmp_path):
    embedded = ["ids", "segments", "words", "positions", "kinds", "g", "b"]
    nodes = [
        helper.make_node("EmbedLayerNormalization", embedded, ["e", "m"], domain=MS, epsilon=1e-12),
        helper.make_node("SkipLayerNormalization", ["e", "e", "g", "b", "c"], ["s", "", "", "total"], domain=MS),
        helper.make_node("SkipSimplifiedLayerNormalization", ["s", "total", "g"], ["y", "", "", "sum"], domain=MS),
    ]
    constants = {"words": random(20, 8), "positions": random(6, 8, seed=1), "kinds": random(2, 8, seed=2)}
    norms = {"g": random(8, seed=3), "b": random(8, seed=4), "c": random(8, seed=5)}
    inputs = [value("ids", [None, 6], 6), value("segments", [None, 6], 6)]
    path = write(model_of(nodes, constants | norms, inputs=inputs, outputs=("y", "sum")), tmp_path)
    ids = torch.tensor([[1, 5, 3, 19, 0, 2], [4, 4, 7, 8, 9, 1]], dtype=torch.int32)
    assert_same(path, ids, ids % 2)


def dynamically_quantized(batch: int | None) -> ModelProto:
    """A product of dynamically quantized features, in the fused and in the written-out form, and their sum."""
    weight = np.random.default_rng(0).integers(-127, 127, (6, 4), dtype=np.int8)
    constants = {"w": weight, "s": np.float32(0.01), "z": np.int8(3), "b": random(4)}
    nodes = [
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"], ["f"], domain=MS),
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        helper.make_node("MatMulIntegerToFloat", ["q", "w", "qs", "s", "qz", "z"], ["g"], domain=MS),
        helper.make_node("MatMulInteger", ["q", "w", "qz", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=1), helper.make_node("Mul", ["qs", "s"], ["step"]),
        helper.make_node("Mul", ["c", "step"], ["h"]), helper.make_node("Sum", ["f", "g", "h"], ["y"]),
    ]  # fmt: skip
    return model_of(nodes, constants, shape=[batch, 6])


@pytest.mark.parametrize("batch", mostly_slow([1, None], keep=[1]))
def test_dynamic_quantization_takes_the_range_of_each_sample(tmp_path, batch):
    path = write(dynamically_quantized(batch), tmp_path)
    x = tensor(5, 6) * torch.tensor([[1.0], [10.0], [0.1], [3.0], [0.0]])
    expected = torch.cat([reference_outputs(path, sample)[0] for sample in x.split(1)])
    assert largest_difference(outputs_of(path, x)[0], expected) <= TOLERANCE
    snn = snnconvert.convert(path, x[:4], progress=False)
    assert (snn(x[:4]) - expected[:4]).square().mean() < 1e-3 * expected.square().mean()
    assert torch.equal(snn.simulate(x[:1]).output, snn(x[:1]))


def test_a_declared_batch_keeps_its_common_range(tmp_path):
    path = write(dynamically_quantized(3), tmp_path)
    assert_same(path, tensor(3, 6) * torch.tensor([[1.0], [10.0], [0.1]]))


def test_quantized_softmax(tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearSoftmax", ["q", "s", "z", "t", "n"], ["p"], domain=MS, axis=-1, opset=13),
        helper.make_node("DequantizeLinear", ["p", "t", "n"], ["y"]),
    ]
    steps = {"s": np.float32(0.05), "z": np.uint8(100), "t": np.float32(1 / 256), "n": np.uint8(0)}
    path = write(model_of(nodes, steps, shape=[None, 6]), tmp_path)
    x = tensor(4, 6)
    assert (outputs_of(path, x)[0] - reference_outputs(path, x)[0]).abs().max() <= 1.001 / 256


def test_graphs_for_one_processor_are_refused(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc", name="c")
    model = model_of([node], {"w": random(8, 3, 3, 3)})
    model.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    with pytest.raises(ConversionError, match="level 'extended' or below"):
        load_onnx(write(model, tmp_path))


def test_operators_that_are_none_are_named(tmp_path):
    with pytest.raises(ConversionError, match=r"Erfc \('e', opset 17\): ONNX has no such operator"):
        load_onnx(write(model_of([helper.make_node("Erfc", ["x"], ["y"], name="e")]), tmp_path))


@pytest.mark.parametrize("opset", [10, 13])
def test_limits_in_shape_arithmetic(tmp_path, opset):
    """Pads as PyTorch's first exporter writes those of TensorFlow's networks."""
    limited = {"min": 0.0} if opset < 11 else {}
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "three"], ["w"], axis=0),
        helper.make_node("Cast", ["w"], ["f"], to=1), helper.make_node("Sub", ["ten", "f"], ["d"]),
        helper.make_node("Clip", ["d"] if limited else ["d", "zero"], ["c"], **limited),
        helper.make_node("Cast", ["c"], ["i"], to=7), helper.make_node("Mul", ["i", "last"], ["pads"]),
        helper.make_node("Add", ["s", "pads"], ["t"]), helper.make_node("Expand", ["one", "t"], ["y"]),
    ]  # fmt: skip
    constants = {"three": np.array(3), "ten": np.float32(10), "zero": np.float32(0), "last": np.array([0, 0, 0, 1])}
    path = write(model_of(nodes, constants | {"one": random(1)}, opset=opset), tmp_path)
    assert_same(path, tensor(1, 3, 8, 8))
