"""Loops whose number of rounds is known are unrolled; others are refused with a place to cut."""

import numpy as np
import pytest
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from onnx_graphs import largest_difference, model_of, outputs_of, reference_outputs, value, write
from slow_cases import mostly_slow

import snnconvert
from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
node = helper.make_node
SIZE, STEPS = 4, 5


def body(*, stop: int | None, stacks: int = 1) -> GraphProto:
    """h ← tanh(W·x[i] + U·h), stacked, for the step i, until i reaches a number."""
    generator = np.random.default_rng(0)
    own = {"w": generator.normal(size=(3, SIZE)), "u": generator.normal(size=(SIZE, SIZE)) / 2}
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in own.items()]
    limit = numpy_helper.from_array(np.array(stop if stop is not None else 0), "limit")
    nodes = [
        node("Gather", ["sequence", "step"], ["now"], axis=0), node("MatMul", ["now", "w"], ["a"]),
        node("MatMul", ["h", "u"], ["b"]), node("Add", ["a", "b"], ["c"]),
        node("Tanh", ["c"], ["next"], name="while/tanh"),
        node("Identity", ["next"], ["row"]), node("Add", ["step", "one"], ["following"]),
        node("Identity", ["go"], ["goes_on"]) if stop is None else node("Less", ["following", "limit"], ["goes_on"]),
    ]  # fmt: skip
    inputs = [value("step", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("h", None)]
    outputs = [value("goes_on", [], TensorProto.BOOL), value("next", None), *[value("row", None)] * stacks]
    return helper.make_graph(nodes, "body", inputs, outputs, [*constants, limit])


def recurrent(stop: int | None = None, most: int | None = STEPS, last: str = "stack", **more: object) -> ModelProto:
    """A recurrent network as tf2onnx writes it: x [N, T, 3], its last or all states."""
    nodes = [
        node("Transpose", ["x"], ["sequence"], perm=[1, 0, 2]),
        node("Shape", ["x"], ["sizes"]), node("Slice", ["sizes", "zero", "first"], ["batch"]),
        node("Concat", ["batch", "width"], ["shape"], axis=0), node("ConstantOfShape", ["shape"], ["start"]),
        node("Loop", ["most" if most is not None else "", "true", "start"], ["end", "stack"], name="loop",
             body=body(stop=stop, **more)),
        node("Transpose", ["stack"], ["y"], perm=[1, 0, 2]) if last == "stack" else node("Relu", ["end"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": [0], "first": [1], "width": [SIZE], "one": 1, "most": most or 0, "true": True}
    return model_of(nodes, {name: np.array(item) for name, item in constants.items()}, shape=[None, STEPS, 3])


@pytest.mark.parametrize(("stop", "most"), [(None, STEPS), (3, STEPS), (STEPS, None), (9, 2)])
@pytest.mark.parametrize("last", ["stack", "end"])
def test_loops_are_unrolled(tmp_path, last, stop, most):
    path = write(recurrent(stop, most, last), tmp_path)
    x = torch.randn(3, STEPS, 3, generator=torch.Generator().manual_seed(0))
    assert largest_difference(outputs_of(path, x)[0], reference_outputs(path, x)[0]) <= 1e-5


def test_unrolled_networks_share_their_weights_and_become_spiking(tmp_path):
    path = write(recurrent(), tmp_path)
    module = load_onnx(path).module
    assert len({id(parameter) for parameter in module.parameters()}) == 2
    x = torch.randn(16, STEPS, 3, generator=torch.Generator().manual_seed(0))
    snn = snnconvert.convert(path, x, progress=False)
    assert (snn(x) - module(x)).square().mean() < 1e-3 * module(x).square().mean()
    assert torch.equal(snn.simulate(x[:1]).output, snn(x[:1]))


def test_loops_that_depend_on_data_are_refused_with_a_place_to_cut(tmp_path):
    model = recurrent()
    names = [item.name for item in model.graph.node]
    loop = model.graph.node[names.index("loop")]
    loop.input[0] = "count"
    model.graph.node.insert(0, node("Cast", ["sum"], ["count"], to=TensorProto.INT64))
    model.graph.node.insert(0, node("ReduceSum", ["x"], ["sum"], keepdims=0))
    with pytest.raises(
        ConversionError, match=r"Loop 'loop' \(opset 17\): how often it runs.*outputs=\('count'"
    ) as caught:
        load_onnx(write(model, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    mostly_slow(
        [
            ({"most": None}, ConversionError, "more than"),
            ({"most": 0}, ConversionError, "never runs"),
            ({"most": 10**9}, ConversionError, "more than"),
        ],
        keep=2,
    ),
)
def test_loops_that_are_refused(tmp_path, arguments, error, message):
    model = recurrent(**arguments)
    for attribute in next(item for item in model.graph.node if item.name == "loop").attribute:
        attribute.g.node[0].CopyFrom(node("Gather", ["sequence", "one"], ["now"], axis=0))
    with pytest.raises(error, match=rf"Loop 'loop' \(opset 17\): .*{message}"):
        load_onnx(write(model, tmp_path))


def test_a_body_that_gives_too_little(tmp_path):
    model = recurrent()
    for attribute in next(item for item in model.graph.node if item.name == "loop").attribute:
        del attribute.g.output[1:]
    with pytest.raises(InputError, match="another number of values"):
        load_onnx(write(model, tmp_path))


def test_words_of_python_in_names_can_be_captured(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="/while/import/MatMul"),
        node("Relu", ["h"], ["y"], name="/if/Relu"),
    ]
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    path = write(model_of(nodes, {"w": weight}, shape=[None, 3]), tmp_path)
    x = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    assert snnconvert.convert(path, x, progress=False)(x).shape == (8, 4)


def test_reversal_that_follows_the_batch(tmp_path):
    nodes = [
        node("Shape", ["x"], ["sizes"]), node("Slice", ["sizes", "zero", "first"], ["batch"]),
        node("Expand", ["length", "batch"], ["lengths"]),
        node("ReverseSequence", ["x", "lengths"], ["y"], batch_axis=0, time_axis=1),
    ]  # fmt: skip
    constants = {"zero": np.array([0]), "first": np.array([1]), "length": np.array([STEPS - 1])}
    path = write(model_of(nodes, constants, shape=[None, STEPS, 3]), tmp_path)
    x = torch.randn(3, STEPS, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(outputs_of(path, x)[0], reference_outputs(path, x)[0])
