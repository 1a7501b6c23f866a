import builtins
import shutil

import numpy as np
import pytest
import torch
from cli_helpers import assert_one_error, write_archive, write_folder
from slow_cases import mostly_slow

import snnconvert
from snnconvert.data.digits import digits_images, digits_preprocessing
from snnconvert.engine_evaluation import evaluate_engine
from snnconvert.engines.integer import compiled as compiled_module
from snnconvert.errors import ConfigurationError

ENGINES = ["onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def network(digits_run):
    """The folder of the digits network."""
    return digits_run[1] / "out"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SNNCONVERT_CACHE", str(tmp_path_factory.getbasetemp() / "engine-cache"))


def right_of(network, count):
    images = digits_images(digits_preprocessing(), evaluation_images=count).evaluation
    inputs = torch.stack([images[i][0] for i in range(count)])
    labels = torch.tensor([images[i][1] for i in range(count)])
    return int((snnconvert.load(network)(inputs).argmax(1) == labels).sum())


@pytest.mark.parametrize("engine", ["packed", "stepwise", *ENGINES])
def test_accuracy_is_the_networks(cli, network, engine):
    if engine in ENGINES:
        pytest.importorskip(engine)
    outcome = cli("eval", network, "--engine", engine, "--limit", 70, "-b", 32, "--threads", 2)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    result = outcome.last_line
    assert (result["schema"], result["engine"], result["images"]) == ("snnconvert.eval/1", engine, 70)
    right = right_of(network, 70)
    assert result["accuracy"]["top1"] == pytest.approx(right / 70)
    low, high = result["accuracy"]["ci95"]
    assert 0 <= low < right / 70 <= high <= 1
    assert result["packed"] is None
    assert result["images_per_second"] == pytest.approx(70 / result["seconds"])
    assert (result["threads"], result["batch_size"], result["model"]) == (2, 32, "digits")
    assert (result["compile_seconds"] is None) == (engine not in ENGINES)
    text = outcome.out.splitlines()
    assert f"engine: {engine}" in text
    assert any(line.startswith("top-1 accuracy: ") and "95 % interval" in line for line in text)
    assert any(line.startswith("images per second: ") and "this machine's" in line for line in text)
    if engine != "openvino":  # which has bytes for all of it on some machines
        assert any("in floating point" in line for line in text) == (engine in ENGINES)


@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["onnxruntime"]))
def test_verified_words_are_counted_over_all_batches(cli, network, engine):
    pytest.importorskip(engine)
    assert cli("eval", network, "--engine", engine, "--limit", 8, "-q").code == 0
    outcome = cli("eval", network, "--engine", engine, "--limit", 50, "-b", 20, "--verify")
    assert outcome.code == 0, outcome.err
    result = outcome.last_line
    assert result["from_cache"] is True
    packed = result["packed"]
    assert (packed["mismatches"], packed["top1_agreement"]) == (0, 1.0)
    assert packed["largest_difference"] < 1e-5
    snn = snnconvert.load(network)
    assert [layer["layer"] for layer in packed["layers"]] == [name for name, _ in snn.neurons()]
    assert packed["layers"][0] == {"layer": "x", "words": 50 * 64, "mismatches": 0, "largest": 0}
    assert "words that differ: 0 of " in outcome.out
    assert "compiled in: " in outcome.out
    assert "from the cache" in outcome.out


def test_words_that_differ_are_shown(cli, network, monkeypatch):
    real = compiled_module._packed_words

    def shifted(graph, leaves):
        words = dict(real(graph, leaves))
        name = list(words)[2]
        words[name] = words[name] + 2
        return words

    monkeypatch.setattr(compiled_module, "_packed_words", shifted)
    outcome = cli("eval", network, "--engine", "onnxruntime", "--limit", 30, "-b", 20, "--verify")
    layer = outcome.last_line["packed"]["layers"][2]
    assert layer["mismatches"] == layer["words"] == outcome.last_line["packed"]["mismatches"] > 0
    assert layer["largest"] == 2
    assert f"words that differ: {layer['words']:,} of " in outcome.out


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_own_images(cli, network, folder, kind):
    path = write_folder(folder / "mine", 80) if kind == "folder" else write_archive(folder / "mine.npz", 80)
    outcome = cli("eval", network, "--data", path, "--engine", "onnxruntime", "-q")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 1
    assert outcome.last_line["images"] == 40  # the other half is kept for calibration
    assert outcome.last_line["accuracy"]["top1"] > 0.9


def test_without_labels_decisions_are_compared_with_the_packed_network(cli, network, folder):
    write_archive(folder / "bare.npz", 60, labels=None)
    for engine in ("stepwise", "onnxruntime"):
        outcome = cli("eval", network, "--data", "bare.npz", "--engine", engine)
        assert outcome.code == 0, outcome.err
        assert outcome.last_line["accuracy"] is None
        assert outcome.last_line["packed"]["top1_agreement"] == 1.0
        assert outcome.last_line["packed"]["layers"] is None
        assert "decisions of the packed network: 100.00%" in outcome.out
    alone = cli("eval", network, "--data", "bare.npz").last_line
    assert (alone["accuracy"], alone["packed"], alone["images"]) == (None, None, 30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-here"], ["config.json", "can't be read"]),
        (["{network}", "--limit", "0"], ["--limit", "at least 1"]),
        (["{network}", "--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["{network}", "--threads", "0"], ["--threads", "from 1"]),
        (["{network}", "--data", "nothing.npz"], ["nothing.npz"]),
        (["{network}", "--verify"], ["--verify", "onnxruntime"]),
        (["{network}", "--verify", "--engine", "stepwise"], ["--verify", "onnxruntime"]),
    ],
)
def test_bad_input_is_one_line(cli, network, folder, arguments, words):
    assert_one_error(cli("eval", *(str(network) if a == "{network}" else a for a in arguments)), *words)


def test_an_unknown_engine_is_refused(cli, network):
    outcome = cli("eval", network, "--engine", "abacus")
    assert outcome.code == 2
    assert "abacus" in outcome.err
    with pytest.raises(ConfigurationError, match="abacus"):
        evaluate_engine(snnconvert.load(network), "abacus", [])


def test_without_openvino_the_extra_is_named(cli, network, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.split(".")[0] == "openvino":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    outcome = cli("eval", network, "--engine", "openvino", "--limit", 4)
    assert_one_error(outcome, "pip install 'snnconvert[openvino]'")


@pytest.mark.parametrize("name", ["model.safetensors", "graph.json"])
def test_damaged_folders_are_refused(cli, network, folder, name):
    shutil.copytree(network, folder / "bad")
    content = bytearray((folder / "bad" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "bad" / name).write_bytes(content)
    for command in (["eval", "bad"], ["export", "bad", "--to", "onnx"]):
        assert_one_error(cli(*command), name, "checksum")


def test_rate_coded_networks_are_refused_by_the_layer_and_run_step_by_step(cli, folder):
    settings = ["--neuron", "if", "--bits", "1", "--T", "8", "--eval-images", "20", "-q", "-o", "rate"]
    assert cli("digits", *settings).code == 0
    assert_one_error(cli("eval", "rate", "--engine", "onnxruntime"), "stem.2", "packed neurons")
    outcome = cli("eval", "rate", "--limit", 20)
    assert outcome.code == 0
    assert outcome.last_line["notes"] == ["not all its neurons are packed: it runs step by step"]
    assert_one_error(cli("export", "rate", "--to", "onnx"), "stem.2", "packed neurons")
    assert [path.name for path in folder.iterdir()] == ["rate"]


def test_networks_without_preprocessing_and_of_several_inputs_are_refused(cli, folder):
    network = torch.nn.Sequential(torch.nn.Linear(6, 4)).eval()
    snnconvert.convert(network, torch.randn(8, 6), progress=False).save("plain")
    assert_one_error(cli("eval", "plain"), "plain", "prepared", "Python")


def test_parts_of_a_network_are_named(cli, folder):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))

        def forward(self, x):
            return self.body(x).nonzero()

    config = snnconvert.ConversionConfig(parts=("body",))
    snnconvert.convert(Whole().eval(), torch.randn(8, 3, 8, 8), config, progress=False).save("parts")
    for command in (["eval", "parts"], ["export", "parts", "--to", "onnx"], ["simulate", "parts"]):
        assert_one_error(cli(*command), "parts/part_0", "body", "HybridModel.load")
    outcome = cli("export", "parts/part_0", "--to", "onnx", "-o", "body.onnx")
    assert outcome.code == 0, outcome.err


def test_onnx_file_runs_by_itself(cli, network, folder):
    import onnxruntime

    outcome = cli("export", network, "--to", "onnx", "-o", "net.onnx", "--words")
    assert outcome.code == 0, outcome.err
    facts = outcome.last_line
    assert (facts["schema"], facts["format"], facts["file"]) == ("snnconvert.export/1", "onnx", "net.onnx")
    assert facts["dialect"] == "onnxruntime"
    assert facts["bytes"] == (folder / "net.onnx").stat().st_size
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    (logits,) = session.run(["output"], {facts["inputs"][0]["name"]: images})
    np.testing.assert_allclose(logits, snnconvert.load(network)(torch.from_numpy(images)).numpy(), rtol=1e-6, atol=1e-6)
    assert "preprocessing" in session.get_modelmeta().custom_metadata_map["snnconvert"]
    assert_one_error(cli("export", network, "--to", "onnx", "-o", "net.onnx"), "net.onnx", "--force")
    assert cli("export", network, "--to", "onnx", "-o", "net.onnx", "--force", "--batch", 2).code == 0
    assert_one_error(cli("export", network, "--to", "spikes", "--words"), "--words", "--to onnx")
    assert_one_error(cli("export", network, "--to", "onnx", "--batch", 0, "-o", "new.onnx"), "batch")
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]
