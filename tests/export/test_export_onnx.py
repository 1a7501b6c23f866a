"""The exported file, run by stock runtimes: nothing of this package but the file and the metadata in it."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.engines.integer.compiled import _packed_words
from snnconvert.errors import ConfigurationError, EngineError, InputError
from snnconvert.export import onnx_export
from snnconvert.export.onnx_export import OnnxTensor, export_onnx
from snnconvert.version import __version__

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
DIALECTS = ["onnxruntime", "openvino"]


class Block(nn.Module):
    """A residual sum, a table, a concat and a capped rectifier; signed words into padded convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.c, self.head = nn.Conv2d(12, 6, 3, 2, 1, groups=2), nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = nn.functional.gelu(self.a(x)) + x
        x = torch.cat([x, nn.functional.relu6(9 * self.b(x))], 1)
        return self.head(torch.relu(self.c(x)).mean((2, 3)))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, image, vector):
        x = torch.relu(self.left(image).mean((2, 3)) + self.right(vector))
        return {"logits": self.head(x), "features": x}


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(4)
    images = torch.randn(10, 3, 8, 8)
    return snnconvert.convert(Block().eval(), images, progress=False), images


@pytest.fixture(scope="module")
def two():
    torch.manual_seed(5)
    inputs = snnconvert.Inputs(torch.randn(8, 3, 6, 6), torch.randn(8, 6))
    return snnconvert.convert(TwoInputs().eval(), [inputs], progress=False), inputs.args


@pytest.fixture(scope="module", params=DIALECTS)
def written(request, block, tmp_path_factory):
    """The file with words, in a dialect."""
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    return path, export_onnx(block[0], path, dialect=request.param, words=True)


def in_onnxruntime(path, feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def in_openvino(path, feeds):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model(feeds)
    return {item.get_any_name(): found[item] for item in model.outputs}


@pytest.mark.parametrize("runtime", [in_onnxruntime, in_openvino])
@pytest.mark.parametrize("batch", [1, 7])
def test_both_runtimes_compute_the_words_and_the_output(block, written, runtime, batch):
    snn, images = block
    path, facts = written
    found = runtime(path, {"x": images[:batch].numpy()})
    np.testing.assert_allclose(found["output"], snn(images[:batch]).numpy(), rtol=1e-6, atol=1e-6)
    expected = {}
    nodes = {node.name: node.meta["layer"] for node in snn.network.graph.nodes if "layer" in node.meta}
    for node, words in _packed_words(snn.network, (images[:batch],)).items():
        expected[nodes[node]] = words.numpy()
    assert [item.layer for item in facts.words] == list(expected)
    for item in facts.words:
        np.testing.assert_array_equal(found[item.output].astype(int) - item.zero_point, expected[item.layer])


def test_facts_and_metadata_say_what_is_in_the_file(block, written):
    snn, _ = block
    path, facts = written
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert facts.bytes == path.stat().st_size
    assert facts.inputs == (OnnxTensor("x", "float32", ("batch", 3, 8, 8)),)
    assert facts.outputs == (OnnxTensor("output", "float32", ("batch", 5)),)
    assert facts.opset == next(item.version for item in model.opset_import if item.domain == "")
    assert (model.producer_name, model.producer_version) == ("snnconvert", __version__)
    about = json.loads({item.key: item.value for item in model.metadata_props}["snnconvert"])
    assert (about["schema"], about["dialect"]) == ("snnconvert.onnx/1", facts.dialect)
    assert [(item["name"], item["weight_bits"], item["spike_bits"], item["T"]) for item in about["layers"]] == [
        (item.layer, item.weight_bits, item.bits, item.T) for item in snn.plan.synapses
    ]
    assert [tuple(item.values()) for item in about["words"]] == [
        (item.layer, item.output, item.zero_point) for item in facts.words
    ]
    assert about["preprocessing"] is None
    names = {node.name for node in model.graph.node}
    assert {"stem", "a", "b", "c"} <= names
    assert {item.domain for item in model.opset_import} <= {"", "pkg.onnxscript.torch_lib.common"}
    assert str(onnx_export.__file__).encode() not in path.read_bytes()


def test_several_inputs_and_outputs(two, tmp_path):
    snn, (image, vector) = two
    facts = export_onnx(snn, tmp_path / "net.onnx")
    assert [item.name for item in facts.inputs] == ["image", "vector"]
    assert [item.shape for item in facts.outputs] == [("batch", 5), ("batch", 4)]
    assert facts.words == ()
    found = in_onnxruntime(tmp_path / "net.onnx", {"image": image[:3].numpy(), "vector": vector[:3].numpy()})
    expected = snn(image[:3], vector[:3])
    for value, name in zip(found.values(), ("logits", "features"), strict=True):
        np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-6, atol=1e-6)


def test_a_fixed_batch_is_in_the_shapes(block, tmp_path):
    snn, images = block
    facts = export_onnx(snn, tmp_path / "net.onnx", batch=2)
    assert (facts.inputs[0].shape, facts.outputs[0].shape) == ((2, 3, 8, 8), (2, 5))
    found = in_onnxruntime(tmp_path / "net.onnx", {"x": images[:2].numpy()})
    np.testing.assert_allclose(found["output"], snn(images[:2]).numpy(), rtol=1e-6, atol=1e-6)


def test_any_image_size_has_names(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    config = snnconvert.ConversionConfig(dynamic_sizes=True)
    snn = snnconvert.convert(network, torch.randn(8, 3, 12, 12), config, progress=False)
    facts = export_onnx(snn, tmp_path / "net.onnx")
    assert facts.inputs[0].shape == ("batch", 3, "height", "width")
    images = torch.randn(2, 3, 6, 9)
    found = in_onnxruntime(tmp_path / "net.onnx", {facts.inputs[0].name: images.numpy()})
    np.testing.assert_allclose(found["output"], snn(images).numpy(), rtol=1e-6, atol=1e-6)


def test_preprocessing_is_in_the_metadata(block, tmp_path):
    snn, _ = block
    report, described = snn.report, {"mean": [0.5], "std": [0.25], "input_size": [3, 8, 8]}
    snn.report = dataclasses.replace(report, preprocessing=described)
    try:
        export_onnx(snn, tmp_path / "net.onnx")
    finally:
        snn.report = report
    props = {item.key: item.value for item in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(props["snnconvert"])["preprocessing"] == described


def test_files_are_not_replaced_unasked(block, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export_onnx(block[0], path)
    assert path.read_text() == "mine"
    export_onnx(block[0], path, force=True)
    onnx.load(path)
    assert [item.name for item in tmp_path.iterdir()] == ["net.onnx"]


def test_networks_of_other_neurons_are_refused_by_the_layer(tmp_path):
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=4)
    snn = snnconvert.convert(network, torch.randn(16, 6), config, progress=False)
    with pytest.raises(EngineError, match=r"^1: integer engines run packed neurons, not if"):
        export_onnx(snn, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("settings", "words"), [({"dialect": "latin"}, "dialect"), ({"batch": 0}, "batch")])
def test_settings_out_of_range_are_refused(block, tmp_path, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        export_onnx(block[0], tmp_path / "net.onnx", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_model_larger_than_one_file_is_refused(block, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST_FILE", 1000)
    with pytest.raises(EngineError, match="2 GiB"):
        export_onnx(block[0], tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_documented_example_runs_as_written(block, tmp_path):
    """In a process of its own, which must not import this package or torch."""
    export_onnx(block[0], tmp_path / "net.onnx")
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    guarded = f"{example}\nimport sys\nassert not {{'snnconvert', 'torch'}} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", guarded], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'name': 'stem'" in done.stdout
