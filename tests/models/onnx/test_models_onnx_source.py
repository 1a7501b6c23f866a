import json

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_graphs import model_of, value, write
from slow_cases import mostly_slow

import snnconvert
from snnconvert.cli.main import main
from snnconvert.errors import InputError, SnnConvertError
from snnconvert.models.source import load_model

node = helper.make_node


@pytest.fixture
def classifier(tmp_path):
    return write(classifier_model(), tmp_path)


def classifier_model(shape=(1, 3, 16, 16), outputs=("y",)):
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(8, 3, 3, 3)) / 5,
        "b": generator.normal(size=8),
        "d": generator.normal(size=(8, 4)),
    }
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="/features/conv/Conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="/features/relu/Relu"),
        node("GlobalAveragePool", ["r"], ["p"], name="/pool/GlobalAveragePool"),
        node("Flatten", ["p"], ["f"], name="/Flatten"), node("MatMul", ["f", "d"], ["y"], name="/fc/MatMul"),
    ]  # fmt: skip
    return model_of(
        nodes, {name: array.astype(np.float32) for name, array in weights.items()}, shape=shape, outputs=outputs
    )


def message(name, **options) -> str:
    with pytest.raises(SnnConvertError) as error:
        load_model(str(name), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_a_model(classifier):
    loaded = load_model(str(classifier))
    assert (loaded.name, loaded.input_size, loaded.num_classes) == ("net.onnx", (3, 16, 16), 4)
    assert loaded.weights == f"onnx {classifier}"
    assert "assumed" in loaded.notes[0]
    assert loaded.preprocessing.mean == (0.485, 0.456, 0.406)
    assert not loaded.module.training
    assert loaded.module(torch.rand(5, 3, 16, 16)).shape == (5, 4)


def test_open_sizes_are_given_by_the_user(tmp_path):
    path = write(classifier_model(("n", 3, "h", "w")), tmp_path)
    assert load_model(str(path), image_size=24).input_size == (3, 24, 24)
    assert "--image-size" in message(path)


def test_options_that_contradict_a_file_are_refused(classifier):
    assert "leave --checkpoint out" in message(classifier, checkpoint=classifier)
    assert "leave --random-weights out" in message(classifier, random_weights=True)
    assert "4 classes, not 7" in message(classifier, num_classes=7)
    assert "image_size 32 doesn't fit" in message(classifier, image_size=32)


def test_files_that_take_no_image_or_give_several_outputs_are_refused(tmp_path):
    assert "[N, C, H, W]" in message(write(model_of([node("Relu", ["x"], ["y"])], shape=[1, 9]), tmp_path))
    assert "2 outputs (y, r)" in message(write(classifier_model(outputs=("y", "r")), tmp_path))
    two = model_of([node("Add", ["x", "z"], ["y"])], inputs=[value("x", [1, 3, 8, 8]), value("z", [1, 3, 8, 8])])
    assert "one floating-point input" in message(write(two, tmp_path))
    assert "there is no such" in message(tmp_path / "none.onnx") or "can't be read" in message(tmp_path / "none.onnx")


@pytest.mark.parametrize("kind", mostly_slow([str, lambda path: path], keep=1), ids=["str", "Path"])
def test_paths_are_converted(classifier, kind):
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    from_file = snnconvert.convert(kind(classifier), x, progress=False)
    from_module = snnconvert.convert(load_model(str(classifier)).module, x, progress=False)
    assert torch.equal(from_file(x), from_module(x))
    assert [item.layer for item in from_file.plan.synapses] == ["features.conv", "fc"]
    assert from_file.plan.coverage == 1.0
    assert [item.layer for item in snnconvert.plan(kind(classifier), x).synapses] == ["features.conv", "fc"]


def test_batchnorms_of_a_file_are_matched_without_data(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {"w": generator.normal(size=(4, 3, 3, 3)), "d": generator.normal(size=(4, 2))}
    arrays |= {name: generator.uniform(0.5, 2, size=4) for name in ("gamma", "beta", "mean", "variance")}
    nodes = [
        node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"]),
        node("Relu", ["n"], ["r"]), node("GlobalAveragePool", ["r"], ["p"]), node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "d"], ["y"]),
    ]  # fmt: skip
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    path = write(model_of(nodes, weights, shape=(1, 3, 16, 16)), tmp_path)
    snn = snnconvert.convert(path, snnconvert.NoData(torch.zeros(1, 3, 16, 16)), progress=False)
    assert snn.report.notes[0].endswith("matched to the statistics of 1 BatchNorm layer in 50 steps")


def test_other_paths_are_refused():
    with pytest.raises(InputError, match=r"no \.onnx file"):
        snnconvert.plan("net.pth", torch.rand(1, 3, 8, 8))


def test_the_command_converts_a_file(classifier, tmp_path, capsys):
    target = tmp_path / "out"
    arguments = [str(classifier), "-o", str(target), "--calib-images", "8", "--eval-images", "8", "-q"]
    assert main(arguments) in (0, None)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["model"] == "net.onnx"
    assert report["coverage"]["macs_on_spikes"] == 1.0
    assert any("assumed" in note for note in report["notes"])
    assert snnconvert.load(target)(torch.rand(2, 3, 16, 16)).shape == (2, 4)


def test_the_command_plans_a_file_without_converting_it(classifier, capsys):
    assert main([str(classifier), "--dry-run", "-q"]) in (0, None)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"] == "net.onnx"
