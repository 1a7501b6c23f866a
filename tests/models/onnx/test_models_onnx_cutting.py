"""Networks whose end can't be converted: the message says where to cut, and the part in front is the same network."""

import re

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_graphs import model_of, write

import snnconvert
from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx import load_onnx

node = helper.make_node


@pytest.fixture
def detector(tmp_path):
    """A convolution, two heads, non-maximum suppression, and its gathered boxes."""
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(8, 3, 3, 3)) / 5,
        "wb": generator.normal(size=(4, 8, 1, 1)) / 3,
        "ws": generator.normal(size=(2, 8, 1, 1)) / 3,
    }
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    shapes = {"four": np.array([0, 4, -1]), "two": np.array([0, 2, -1]), "most": np.array([5]), "second": np.array(1)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "wb"], ["b"]), node("Reshape", ["b", "four"], ["bt"]),
        node("Transpose", ["bt"], ["boxes"], perm=[0, 2, 1]),
        node("Conv", ["r", "ws"], ["s"]), node("Reshape", ["s", "two"], ["st"]), node("Sigmoid", ["st"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"], name="nms"),
        node("NonZero", ["kept"], ["where"]), node("Gather", ["kept", "second"], ["y"], axis=1),
    ]  # fmt: skip
    return write(model_of(nodes, constants | shapes, shape=[1, 3, 8, 8], outputs=("y", "where")), tmp_path)


def test_the_message_says_where_to_cut(detector):
    with pytest.raises(ConversionError) as error:
        load_onnx(detector)
    assert re.search(r"NonMaxSuppression \('nms', opset \d+\)", str(error.value))
    assert "NonZero" in str(error.value)
    assert "load_onnx(path, outputs=('boxes', 'scores',))" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_part_in_front_is_converted(detector, tmp_path):
    loaded = load_onnx(detector, outputs=("boxes", "scores"))
    assert loaded.outputs == ("boxes", "scores")
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    snn = snnconvert.convert(loaded.module, x, progress=False)
    expected, found = loaded.module(x), snn(x)
    assert list(found) == ["boxes", "scores"]
    for name, reference in expected.items():
        assert (found[name] - reference).square().mean() < 1e-3 * reference.square().mean()
    assert all(torch.equal(snn.simulate(x[:2]).output[name], snn(x[:2])[name]) for name in found)


def test_values_keep_their_meaning(detector):
    x = torch.rand(2, 3, 8, 8)
    boxes, _, convolved = load_onnx(detector, outputs=("boxes", "scores", "c")).module(x).values()
    assert torch.equal(load_onnx(detector, ["boxes"]).module(x), boxes)
    assert torch.equal(load_onnx(detector, ["r"]).module(x), convolved.relu())


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (("boxs",), r"no node computes 'boxs' \(near matches: boxes"),
        (("x",), "no node computes 'x'"),
        (("w",), "no node computes 'w'"),
        (("r", "r"), "each once"),
    ],
)
def test_values_that_can_not_be_outputs(detector, outputs, message):
    with pytest.raises(InputError, match=message):
        load_onnx(detector, outputs)


def test_inputs_that_nothing_needs_are_dropped(tmp_path):
    nodes = [node("Relu", ["x"], ["a"]), node("Add", ["a", "z"], ["y"])]
    inputs = [helper.make_tensor_value_info(name, 1, [1, 3, 4, 4]) for name in ("x", "z")]
    path = write(model_of(nodes, inputs=inputs), tmp_path)
    assert [item.name for item in load_onnx(path).inputs] == ["x", "z"]
    assert [item.name for item in load_onnx(path, ["a"]).inputs] == ["x"]
