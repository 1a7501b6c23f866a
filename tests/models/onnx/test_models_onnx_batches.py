"""Files of one sample whose shapes leave open where the batch goes: the network is the same sample by sample."""

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper
from onnx_graphs import largest_difference, model_of, outputs_of, reference_outputs, value, write
from slow_cases import mostly_slow

import snnconvert
from snnconvert.errors import ConversionError
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
node = helper.make_node
STEPS, WIDTH = 5, 4


def assert_follows(path, *shape: int) -> None:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([reference_outputs(path, sample)[0] for sample in x.split(1)])
    assert largest_difference(outputs_of(path, x)[0], expected) <= 1e-5
    snn = snnconvert.convert(path, x, progress=False)
    assert (snn(x) - expected).square().mean() < 1e-2 * expected.square().mean()


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("w", "v")}


def steps_in_front() -> ModelProto:
    """A transposition [1, T, D] to [T, 1, D] written as a reshape, as tf2onnx does, and one step picked."""
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]), node("MatMul", ["t", "w"], ["h"]), node("Relu", ["h"], ["r"]),
        node("Gather", ["r", "second"], ["g"], axis=0), node("MatMul", ["g", "v"], ["y"]),
    ]  # fmt: skip
    constants = {"shape": np.array([STEPS, 1, WIDTH]), "second": np.array(2)}
    return model_of(nodes, weights() | constants, shape=[1, STEPS, WIDTH])


def steps_as_samples() -> ModelProto:
    """The same reshape, but back again afterwards: the steps are further samples."""
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]), node("MatMul", ["t", "w"], ["h"]),
        node("Softmax", ["h"], ["r"], axis=2), node("Reshape", ["r", "back"], ["y"]),
    ]  # fmt: skip
    constants = {"shape": np.array([STEPS, 1, WIDTH]), "back": np.array([1, STEPS, WIDTH])}
    return model_of(nodes, weights() | constants, shape=[1, STEPS, WIDTH])


def steps_in_front_and_flat() -> ModelProto:
    """The same, and back again in one reshape that also flattens."""
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]), node("Gather", ["t", "second"], ["g"], axis=0),
        node("MatMul", ["g", "w"], ["h"]), node("Unsqueeze", ["h", "front"], ["u"]),
        node("Concat", ["u", "u"], ["c"], axis=0), node("Reshape", ["c", "flat"], ["y"]),
    ]  # fmt: skip
    constants = {"shape": np.array([STEPS, 1, WIDTH]), "second": np.array(2), "front": np.array([0])}
    flat = {"flat": np.array([1, 2 * WIDTH])}
    return model_of(nodes, weights() | constants | flat, shape=[1, STEPS, WIDTH])


@pytest.mark.parametrize(
    "make",
    mostly_slow(
        [steps_in_front, steps_in_front_and_flat, steps_as_samples], keep=[steps_in_front_and_flat, steps_as_samples]
    ),
)
def test_reshapes_that_move_the_batch(tmp_path, make):
    assert_follows(write(make(), tmp_path), STEPS, WIDTH)


def test_samples_that_would_mix_are_not_moved(tmp_path):
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]), node("MatMul", ["t", "w"], ["h"]),
        node("ReduceMean", ["h"], ["m"], axes=[1], keepdims=1), node("Sub", ["h", "m"], ["d"]),
        node("Gather", ["d", "second"], ["y"], axis=0),
    ]  # fmt: skip
    constants = {"shape": np.array([STEPS, 1, WIDTH]), "second": np.array(2)}
    path = write(model_of(nodes, weights() | constants, shape=[1, STEPS, WIDTH]), tmp_path)
    layers = [module for module in load_onnx(path).module.modules() if getattr(module, "batch", None)]
    assert not any(layer.batch.moved for layer in layers)


def test_strided_views_of_one_sample(tmp_path):
    """As PyTorch's newer exporter writes as_strided: all values in a row, and their places in the view."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "row"], ["r"]),
        node("Gather", ["r", "places"], ["g"], axis=0), node("MatMul", ["g", "v"], ["y"]),
    ]  # fmt: skip
    places = np.arange(STEPS * WIDTH).reshape(1, STEPS, WIDTH)[:, ::-1].copy()
    constants = {"row": np.array([-1]), "places": places}
    path = write(model_of(nodes, weights() | constants, shape=[1, STEPS, WIDTH]), tmp_path)
    assert_follows(path, STEPS, WIDTH)


def test_inputs_that_nothing_reads_may_be_left_out(tmp_path):
    """Keras' constants that tf2onnx leaves as further inputs, though they are folded into the network."""
    inputs = [value("x", [1, WIDTH]), value("mean", [1, WIDTH]), value("variance", [1, WIDTH])]
    path = write(model_of([node("MatMul", ["x", "w"], ["y"])], weights(), inputs=inputs), tmp_path)
    x = torch.randn(3, WIDTH)
    module = load_onnx(path).module
    assert torch.equal(module(x), module(x, x[:1], x[:1]))
    assert snnconvert.convert(path, x, progress=False)(x).shape == (3, WIDTH)
    read = model_of([node("Sub", ["x", "variance"], ["y"])], inputs=inputs)
    with pytest.raises(ConversionError, match="takes 3 inputs, 1 were given"):
        load_onnx(write(read, tmp_path, "read.onnx")).module(x)


def test_equal_lengths_reverse_every_sample(tmp_path):
    reverse = node("ReverseSequence", ["x", "lengths"], ["r"], batch_axis=0, time_axis=1)
    constants = weights() | {"lengths": np.array([STEPS - 1])}
    path = write(model_of([reverse, node("MatMul", ["r", "w"], ["y"])], constants, shape=[1, STEPS, WIDTH]), tmp_path)
    assert_follows(path, STEPS, WIDTH)
