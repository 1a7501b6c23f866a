"""Scikit-learn's files: features, linear models and labels of ai.onnx.ml, compared with onnxruntime."""

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from onnx_graphs import largest_difference, model_of, outputs_of, reference_outputs, value, write

import snnconvert
from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
ML = "ai.onnx.ml"
X = torch.tensor([[1.5, -2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0], [0.25, 0.75, -0.5]])


def classical(name: str, outputs: dict[str, int], **attributes: object) -> ModelProto:
    """One operator of ai.onnx.ml; outputs by name and type."""
    nodes = [helper.make_node(name, ["x"], list(outputs), domain=ML, name=name.lower(), **attributes)]
    return declared(model_of(nodes, shape=[None, 3], outputs=tuple(outputs)), outputs)


def declared(model: ModelProto, outputs: dict[str, int]) -> ModelProto:
    """The model, in scikit-learn's opsets and with the types of its outputs."""
    del model.graph.output[:], model.opset_import[:]
    model.graph.output.extend(value(name, None, kind) for name, kind in outputs.items())
    model.opset_import.extend([helper.make_opsetid("", 15), helper.make_opsetid(ML, 1)])
    return model


def assert_same(path, x: torch.Tensor = X) -> None:
    for actual, expected in zip(outputs_of(path, x), reference_outputs(path, x), strict=True):
        assert actual.dtype == expected.dtype
        assert largest_difference(actual, expected) <= 1e-6


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("Scaler", {"offset": [0.5, 1.0, -1.0], "scale": [2.0, 0.25, 3.0]}),
        ("Scaler", {"offset": [0.5], "scale": [2.0]}),
        ("Normalizer", {"norm": "MAX"}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("Binarizer", {"threshold": 0.5}),
        ("Imputer", {"imputed_value_floats": [9.0, 8.0, 7.0], "replaced_value_float": 0.0}),
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0], "intercepts": [0.5]}),
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0, -1.0, 0.5, 2.0], "targets": 2}),
        ("LinearRegressor", {"coefficients": [1.0, 2, 3, -1, 0.5, 2], "targets": 2, "post_transform": "SOFTMAX"}),
    ],
)
def test_features_and_regressors(tmp_path, name, attributes):
    assert_same(write(classical(name, {"y": TensorProto.FLOAT}, **attributes), tmp_path))


def test_missing_values_are_imputed(tmp_path):
    model = classical("Imputer", {"y": 1}, imputed_value_floats=[9.0], replaced_value_float=float("nan"))
    assert_same(write(model, tmp_path), torch.where(X == 0, torch.nan, X))


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_classifiers(tmp_path, rows, transform):
    coefficients = [1.0, 2.0, 0.5, -1.0, 0.25, 2.0, 0.75, -0.5, 1.0][: 3 * rows]
    model = classical(
        "LinearClassifier", {"label": TensorProto.INT64, "y": TensorProto.FLOAT}, coefficients=coefficients,
        intercepts=[0.25, -0.5, 0.125][:rows], classlabels_ints=[4, 7, 9][: max(rows, 2)], post_transform=transform,
    )  # fmt: skip
    assert_same(write(model, tmp_path))


def named_classes(last: list, outputs: dict[str, int]) -> ModelProto:
    first = helper.make_node(
        "LinearClassifier", ["x"], ["label", "p"], domain=ML, name="linear", coefficients=[1.0, 2, 0.5, -1, 0.25, 2],
        intercepts=[0.25, -0.5], classlabels_strings=["cat", "dog"], post_transform="SOFTMAX",
    )  # fmt: skip
    return declared(model_of([first, *last], shape=[None, 3]), outputs)


def test_texts_are_refused_with_a_way_out(tmp_path):
    path = write(named_classes([], {"label": TensorProto.STRING, "p": TensorProto.FLOAT}), tmp_path)
    with pytest.raises(ConversionError, match=r"the output 'label' holds texts.*load_onnx\(path, outputs=\('p',\)\)"):
        load_onnx(path)
    assert largest_difference(load_onnx(path, ("p",)).module(X), scores_of(path)) <= 1e-6
    with pytest.raises(ConversionError, match=r"LinearClassifier 'linear' \(opset 1\): its labels are texts"):
        load_onnx(path, ("label",))


def scores_of(path) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["p"], {"x": X.numpy()})[0])


def test_dictionaries_by_class_are_their_tensor(tmp_path):
    zipped = helper.make_node("ZipMap", ["p"], ["y"], domain=ML, classlabels_strings=["cat", "dog"])
    model = named_classes([zipped], {"p": TensorProto.FLOAT})
    model.graph.output.add(name="y").type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    assert torch.equal(*load_onnx(write(model, tmp_path)).module(X).values())


def test_texts_of_a_cut_network_are_not_read(tmp_path):
    labels = helper.make_tensor("labels", TensorProto.STRING, [3], [b"a", b"b", b"c"])
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]), helper.make_node("ArgMax", ["p"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["labels", "best"], ["y"], domain=ML),
    ]  # fmt: skip
    path = write(declared(model_of(nodes, {"labels": labels}, shape=[None, 3]), {"y": TensorProto.STRING}), tmp_path)
    with pytest.raises(ConversionError, match="'y' holds texts"):
        load_onnx(path)
    assert torch.equal(load_onnx(path, ["p"]).module(X), torch.softmax(X, 1))


def test_labels_are_picked(tmp_path):
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["labels", "best"], ["label"], domain=ML),
        helper.make_node("ArrayFeatureExtractor", ["x", "columns"], ["y"], domain=ML),
    ]
    constants = {"labels": np.array([3, 5, 8]), "columns": np.array([2, 0])}
    model = model_of(nodes, constants, shape=[None, 3])
    assert_same(write(declared(model, {"label": TensorProto.INT64, "y": TensorProto.FLOAT}), tmp_path))


def test_a_pipeline_becomes_spiking(tmp_path):
    generator = np.random.default_rng(0)
    weights = {"w": generator.normal(size=(3, 16)).astype(np.float32), "v": generator.normal(size=(16, 4)) / 4}
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain=ML, offset=[0.1, 0.2, 0.3], scale=[2.0, 1.0, 0.5]),
        helper.make_node("MatMul", ["s", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["z"]), helper.make_node("Softmax", ["z"], ["p"]),
        helper.make_node("Normalizer", ["p"], ["y"], domain=ML, norm="L1"),
    ]  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    path = write(declared(model_of(nodes, constants, shape=[None, 3]), {"y": TensorProto.FLOAT}), tmp_path)
    x = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    snn = snnconvert.convert(path, x, progress=False)
    expected = reference_outputs(path, x)[0]
    assert (snn(x) - expected).square().mean() < 1e-3 * expected.square().mean()
    assert torch.equal(snn.simulate(x[:1]).output, snn(x[:1]))


@pytest.mark.parametrize(
    ("name", "attributes", "error", "message"),
    [
        ("LinearRegressor", {"coefficients": [1.0, 2.0], "targets": 4}, InputError, "coefficients"),
        ("LinearRegressor", {}, InputError, "0 coefficients"),
        ("LinearRegressor", {"coefficients": [1.0] * 3, "post_transform": "LOGISTIC"}, ConversionError, "single score"),
        ("LinearRegressor", {"coefficients": [1.0] * 6, "targets": 2, "post_transform": "PROBIT"}, ConversionError,
         "'PROBIT'"),
        ("Normalizer", {"norm": "L7"}, InputError, "'L7'"),
        ("TreeEnsembleRegressor", {}, ConversionError, "trees"),
        ("SVMRegressor", {}, ConversionError, "support vector"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, name, attributes, error, message):
    path = write(classical(name, {"y": TensorProto.FLOAT}, **attributes), tmp_path)
    with pytest.raises(error, match=message) as caught:
        load_onnx(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
