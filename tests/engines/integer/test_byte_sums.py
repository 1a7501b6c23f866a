"""Sums of two words in one kernel of onnxruntime: what is taken for exact is, for all pairs of bytes."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import fx

from snnconvert.engines.integer.byte_sums import Operand, exact_order
from snnconvert.engines.integer.dialect import ONNXRUNTIME
from snnconvert.engines.integer.folding import fold_gains
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode

BYTES = np.arange(256, dtype=np.uint8)
FIRST, SECOND = np.repeat(BYTES, 256), np.tile(BYTES, 256)


class Sum(fx.GraphModule):
    """Neurons on the sum of two layers' words, times 1024 and times a multiplier."""

    def __init__(self, code, multiplier, gain):
        graph, one = fx.Graph(), torch.ones(())
        images = graph.placeholder("x")
        modules = {name: SpikingNeuron(code, one, one) for name in ("a", "b")}
        modules["scaled_a"] = IntegerScale(torch.tensor(1024))
        modules["scaled_b"] = IntegerScale(torch.tensor(multiplier))
        modules["fires"] = SpikingNeuron(code, torch.tensor(gain), one)
        scaled = [graph.call_module(f"scaled_{name}", (graph.call_module(name, (images,)),)) for name in "ab"]
        total = graph.call_function(torch.ops.aten.add.Tensor, tuple(scaled))
        graph.output(graph.call_module("fires", (total,)))
        super().__init__(modules, graph)

    def order(self):
        """The operands in the order in which their kernel adds them up; None if no kernel does."""
        total = next(node for node in self.graph.nodes if node.op == "call_function")
        modules = {node: self.get_submodule(node.target) for node in self.graph.nodes if node.op == "call_module"}
        order = fold_gains(self.graph, modules, ONNXRUNTIME, (), {}).orders.get(total)
        return order and [str(node.target) for node in order]


def summed(scales, offsets, offset):
    """What onnxruntime makes of all pairs of bytes."""
    names = ["a", "scale_a", "offset_a", "b", "scale_b", "offset_b", "scale", "offset"]
    numbers = zip(names[1:6:3] + names[6:7], [*scales, 1.0], strict=True)
    points = zip(names[2:6:3] + names[7:], [*offsets, offset], strict=True)
    graph = helper.make_graph(
        [helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1 << 16]) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1 << 16])],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [number]) for name, number in numbers]
        + [helper.make_tensor(name, TensorProto.UINT8, [], [point]) for name, point in points],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"a": FIRST, "b": SECOND})[0]


def expected(scales, offsets, offset):
    words = [bytes_.astype(np.float64) - point for bytes_, point in zip((FIRST, SECOND), offsets, strict=True)]
    total = sum(scale * word for scale, word in zip(scales, words, strict=True))
    return (np.rint(total) + offset).clip(0, 255).astype(np.uint8)


def ordered(scales, offsets, offset):
    operands = [Operand(torch.tensor(scale), point) for scale, point in zip(scales, offsets, strict=True)]
    return exact_order(operands, offset)


def test_sums_taken_for_exact_are():
    random, taken = np.random.default_rng(0), 0
    for _ in range(1500):
        gain = random.integers(128, 256) / 2.0 ** random.integers(8, 20)
        multipliers = [random.integers(1, 4097), random.choice([random.integers(1, 4097), 1 << random.integers(0, 13)])]
        scales = [float(multiplier * gain) for multiplier in multipliers]
        *offsets, offset = (int(random.choice([0, 128, random.integers(0, 256)])) for _ in range(3))
        if not 0.1 < max(scales) < 4 or (order := ordered(scales, offsets, offset)) is None:
            continue
        case = [scales[place] for place in order], [offsets[place] for place in order], offset
        assert np.array_equal(summed(*case), expected(*case)), case
        taken += 1
    assert taken > 50


@pytest.mark.parametrize(
    ("scales", "offset"), [((25559 / 2**15, 1.0), 0), ((249 / 2**8, 0.25), 128), ((1.0, 211 / 2**10), 128)]
)
def test_usual_sums_are_exact(scales, offset):
    assert ordered(scales, [offset, offset], offset) is not None


@pytest.mark.parametrize(
    ("scales", "offsets", "offset"),
    [
        ((249 / 2**8, 211 * 249 / 2**18), (128, 128), 128),
        ((4096 * 872 / 2**28, 17 * 872 / 2**28), (0, 0), 0),
        ((250 * 101 / 2**15, 512 * 101 / 2**15), (0, 0), 145),
        ((float("nan"), 1.0), (0, 0), 0),
    ],
)
def test_others_are_not_taken_for_exact(scales, offsets, offset):
    assert ordered(list(scales), offsets, offset) is None


def test_scales_by_channel_have_no_zero_points():
    scales = torch.tensor([0.5, 0.25]).view(2, 1, 1)
    assert exact_order([Operand(scales, 128), Operand(torch.tensor(211 * 249 / 2**16), 128)], 128) == [1, 0]
    assert exact_order([Operand(scales / 3, 128), Operand(torch.tensor(1.0), 128)], 128) is None


def test_only_exact_sums_take_gains_over():
    unsigned, signed = PackedCode(8, 1), PackedCode(8, 1, offset=128)
    assert Sum(unsigned, 211, 2.0**-10).order() == ["scaled_b", "scaled_a"]
    assert Sum(unsigned, 4096, 2.0**-12).order() == ["scaled_a", "scaled_b"]
    assert Sum(signed, 211, 2.0**-10).order() == ["scaled_b", "scaled_a"]
    assert Sum(signed, 211, 249 / 2.0**18).order() is None
