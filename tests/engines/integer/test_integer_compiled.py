"""Compiled networks: how they are called, what they refuse, and what is kept on disk."""

import builtins
import gc
import tempfile

import onnx
import pytest
import torch
from engine_networks import Net, conv, converted
from integer_networks import RUNTIMES
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.integer import built_model, proof
from snnconvert.engines.integer import compiled as compiled_module
from snnconvert.engines.integer.content_cache import ContentCache, default_folder
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.errors import ConfigurationError, EngineError, InputError

EMPTY = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))


@pytest.fixture(params=list(RUNTIMES))
def engine(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def chain():
    return converted("chain")


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = conv(3, 4), nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, image, vector):
        x = torch.relu(self.left(image).mean((2, 3)) + self.right(vector))
        return {"logits": self.head(x), "features": [x, torch.relu(self.left(image))]}


@pytest.fixture(scope="module")
def two():
    torch.manual_seed(1)
    inputs = [snnconvert.Inputs(torch.randn(8, 3, 6, 6), vector=torch.randn(8, 6)) for _ in range(2)]
    return snnconvert.convert(TwoInputs().eval(), inputs, progress=False), inputs[0]


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["openvino"]), indirect=True)
def test_several_inputs_and_outputs_keep_their_structure(two, engine):
    snn, inputs = two
    compiled = snn.compile(engine, threads=2, cache=False)
    image, vector = inputs.args[0], inputs.kwargs["vector"]
    for found in (compiled(image, vector), compiled(vector=vector, image=image)):
        expected = snn(image, vector)
        assert list(found) == list(expected) == ["logits", "features"]
        torch.testing.assert_close(found["logits"], expected["logits"], rtol=1e-6, atol=1e-6)
        for one, other in zip(found["features"], expected["features"], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    agreement = compiled.agreement(image, vector)
    assert [layer.layer for layer in agreement] == [name for name, _ in snn.neurons()]
    assert {layer.mismatches for layer in agreement} == {0}
    with pytest.raises(InputError, match="vector"):
        compiled(image)


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_any_batch_and_its_split_give_the_same(chain, engine):
    snn, images = chain
    compiled = snn.compile(engine, threads=2, cache=False)
    whole = compiled(images)
    torch.testing.assert_close(whole, snn(images), rtol=1e-6, atol=1e-6)
    assert torch.equal(torch.cat([compiled(images[:1]), compiled(images[1:8]), compiled(images[8:])]), whole)
    assert [layer.mismatches for layer in compiled.agreement(images[:3])] == [0] * len(list(snn.neurons()))
    assert (compiled.engine, compiled.from_cache) == (engine, False)
    assert compiled.compile_seconds > 0
    with pytest.raises(InputError, match=r"expected floating-point input \[N, 3, 8, 8\]"):
        compiled(torch.zeros(2, 3, 9, 8))
    with pytest.raises(InputError, match="expected"):
        compiled(images.long())


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_a_fixed_batch_is_the_only_one(chain, engine):
    snn, images = chain
    compiled = snn.compile(engine, batch=4, cache=False, lean=True)
    torch.testing.assert_close(compiled(images[:4]), snn(images[:4]), rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match="built for batches of 4, got 3"):
        compiled(images[:3])


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_any_image_size_where_the_network_takes_any(engine):
    torch.manual_seed(0)
    network = nn.Sequential(conv(3, 5), nn.ReLU(), nn.MaxPool2d(2), conv(5, 4), nn.ReLU(), conv(4, 2, 1)).eval()
    config = snnconvert.ConversionConfig(dynamic_sizes=True)
    snn = snnconvert.convert(network, torch.randn(8, 3, 12, 12), config, progress=False)
    compiled = snn.compile(engine, threads=2, cache=False)
    for images in (torch.randn(2, 3, 8, 20), torch.randn(3, 3, 14, 10)):
        torch.testing.assert_close(compiled(images), snn(images), rtol=1e-6, atol=1e-6)
        assert {layer.mismatches for layer in compiled.agreement(images)} == {0}


class Heads(nn.Module):
    """One head on two maps, whose answers are reshaped with the maps' sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = conv(3, 6), conv(6, 6), conv(6, 8)

    def forward(self, maps):
        found = []
        for x in maps:
            y = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
            n, _, height, width = y.shape
            found.append(y.view(n, 2, 4, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, 4))
        return torch.cat(found, 1)


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_sizes_that_the_network_computes_with(engine):
    torch.manual_seed(0)
    maps = [torch.randn(16, 3, 8, 8), torch.randn(16, 3, 4, 4)]
    config = snnconvert.ConversionConfig(dynamic_sizes=True)
    snn = snnconvert.convert(Heads().eval(), [snnconvert.Inputs(maps)], config, progress=False)
    compiled = snn.compile(engine, threads=2, cache=False)
    for given in (maps, [torch.randn(2, 3, 5, 7), torch.randn(2, 3, 3, 3)]):
        torch.testing.assert_close(compiled(given), snn(given), rtol=1e-6, atol=1e-6)
        assert {layer.mismatches for layer in compiled.agreement(given)} == {0}


def test_built_models_are_found_again_unless_damaged(chain, tmp_path, monkeypatch):
    snn, images = chain
    first = snn.compile(cache=tmp_path)
    again = snn.compile(cache=tmp_path)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert torch.equal(again(images), first(images))
    (stored,) = tmp_path.glob("*/model.onnx")
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    assert not snn.compile(cache=tmp_path).from_cache
    assert snn.compile(cache=tmp_path).from_cache
    assert not snn.compile(cache=tmp_path, batch=2).from_cache
    monkeypatch.setenv("SNNCONVERT_CACHE", str(tmp_path))
    assert snn.compile().from_cache
    other, _ = converted("chain", weight_bits=7)
    assert not other.compile(cache=tmp_path).from_cache


def test_models_that_other_code_built_are_built_again(chain, tmp_path, monkeypatch):
    snn, _ = chain
    assert not snn.compile(cache=tmp_path).from_cache
    assert snn.compile(cache=tmp_path).from_cache
    with monkeypatch.context() as patch:
        patch.setattr(built_model, "package_digest", lambda: "other code")
        assert not snn.compile(cache=tmp_path).from_cache
        assert snn.compile(cache=tmp_path).from_cache
    assert snn.compile(cache=tmp_path).from_cache
    assert len(list(tmp_path.glob("*/model.onnx"))) == 2


def test_folders_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("SNNCONVERT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "snnconvert"
    monkeypatch.setenv("SNNCONVERT_CACHE", "~/elsewhere")
    assert default_folder().is_absolute()
    (tmp_path / "file").write_text("")
    assert ContentCache(tmp_path / "file").write("key", EMPTY, {}) is None
    assert ContentCache(tmp_path / "file").find("key") is None


def test_weights_are_in_a_file_of_their_own_and_checked(tmp_path):
    images = torch.randn(8, 3, 8, 8)
    network = nn.Sequential(conv(3, 16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 5))
    snn = snnconvert.convert(network.eval(), images, progress=False)
    snn.compile(cache=tmp_path)
    (graph,), (weights,) = tmp_path.glob("*/model.onnx"), tmp_path.glob("*/weights.bin")
    largest = max(tensor.numel() for tensor in snn.network.state_dict().values() if tensor.dtype == torch.int8)
    assert weights.stat().st_size >= largest
    assert onnx.load(str(graph)).graph.node
    content = weights.read_bytes()
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    again = snn.compile(cache=tmp_path)
    assert not again.from_cache
    torch.testing.assert_close(again(images), snn(images), rtol=1e-6, atol=1e-6)
    assert weights.read_bytes() == content


@pytest.mark.parametrize(
    "about", ["", "[]", "{}", '{"sha256": 5, "facts": {}}', '{"sha256": "", "facts": {"macs": "x"}}']
)
def test_what_the_cache_cannot_read_is_not_there(tmp_path, about):
    cache = ContentCache(tmp_path)
    path = cache.write("key", EMPTY, {"macs": 3})
    assert cache.find("key").path == path
    assert cache.find("key").facts == {"macs": 3}
    (path.parent / "about.json").write_text(about)
    assert cache.find("key") is None


def test_engines_run_where_the_cache_cannot_be_written(chain, tmp_path):
    snn, images = chain
    (tmp_path / "file").write_text("")
    compiled = snn.compile(cache=tmp_path / "file")
    torch.testing.assert_close(compiled(images), snn(images), rtol=1e-6, atol=1e-6)
    assert compiled.float_operations() == snn.compile(cache=tmp_path).float_operations()


def test_models_without_a_cache_go_with_their_engine(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiled = chain[0].compile(cache=False)
    assert len(list(tmp_path.glob("*/*.onnx"))) == 1
    del compiled
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_the_model_it_says_so(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(EngineError, match=r"can't be written: No such file.*choose a folder for the cache"):
        chain[0].compile(cache=False)


def test_a_model_deleted_under_an_engine_is_named(chain, tmp_path):
    snn, images = chain
    compiled = snn.compile(cache=tmp_path)
    (stored,) = tmp_path.glob("*/model.onnx")
    stored.unlink()
    torch.testing.assert_close(compiled(images), snn(images), rtol=1e-6, atol=1e-6)
    with pytest.raises(EngineError, match=r"model\.onnx.* is gone: compile the network again"):
        compiled.float_operations()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threads": 0}, "threads"), ({"threads": True}, "threads"), ({"threads": 5000}, "threads"),
        ({"batch": 0}, "batch"), ({"batch": 1.5}, "batch"), ({"lean": "yes"}, "lean"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(chain, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        chain[0].compile(**settings)
    assert RuntimeOptions(threads=1024).threads == 1024


def test_an_unknown_engine_is_refused_with_those_there_are(chain):
    with pytest.raises(ConfigurationError, match=r"onnxruntime.*openvino.*'abacus'"):
        chain[0].compile("abacus")


def test_without_openvino_the_extra_is_named(chain, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.split(".")[0] == "openvino":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(EngineError, match=r"pip install 'snnconvert\[openvino\]'"):
        chain[0].compile("openvino", cache=False)


@pytest.mark.parametrize("neuron", ["if", "lif:leak=0.9", "ternary"])
def test_neurons_of_other_codes_are_refused_by_name(neuron):
    snn, _ = converted("chain", neuron=neuron, T=4, bits=1)
    with pytest.raises(EngineError, match=r"^1: integer engines run packed neurons, not \w+: .*convert it with packed"):
        snn.compile(cache=False)


def test_sums_beyond_32_bits_are_refused_by_name(chain, monkeypatch):
    bound = 255 * 127 * 27
    monkeypatch.setattr(proof, "INT32_LARGEST", bound // 4)
    with pytest.raises(EngineError, match=r"^0: its sums may reach .*beyond 32-bit accumulators: .*fewer weight bits"):
        chain[0].compile(cache=False)


def test_a_layer_of_many_large_weights_is_refused():
    inputs = 70_000  # 70,000 x 255 x 127 > 2^31
    network = nn.Sequential(nn.Linear(inputs, 2)).eval()
    nn.init.constant_(network[0].weight, 0.01)
    snn = snnconvert.convert(network, torch.rand(4, inputs), progress=False)
    with pytest.raises(EngineError, match=r"^0: its sums may reach 2\.27e\+09"):
        snn.compile(cache=False)


def test_agreement_counts_words_that_differ(chain, monkeypatch):
    snn, images = chain
    compiled = snn.compile(cache=False)
    real = compiled_module._packed_words

    def shifted(network, leaves):
        words = real(network, leaves)
        name = list(words)[1]
        words[name] = words[name].contiguous().clone()
        words[name].view(-1)[:5] += 3
        return words

    monkeypatch.setattr(compiled_module, "_packed_words", shifted)
    agreement = compiled.agreement(images)
    assert [(layer.mismatches, layer.largest) for layer in agreement[:3]] == [(0, 0), (5, 3), (0, 0)]
    assert agreement[1].words == 12 * 6 * 8 * 8


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_what_a_runtime_computes_in_floats_is_named(engine):
    snn, _ = converted("class_token")
    compiled = snn.compile(engine, cache=False)
    assert {"LayerNormalization", "MVN"} & {operation.kind for operation in compiled.float_operations()}
    plain, _ = converted("chain")
    kinds = {operation.kind for operation in plain.compile(engine, cache=False).float_operations()}
    assert kinds <= {"Mul", "Eltwise"}


@pytest.mark.parametrize("engine", mostly_slow(RUNTIMES, keep=["onnxruntime"]), indirect=True)
def test_networks_of_one_layer_and_networks_without_neurons_behind_it(engine):
    torch.manual_seed(0)
    network = Net(lambda n, x: n.only(x), only=nn.Linear(6, 3)).eval()
    images = torch.randn(8, 6)
    snn = snnconvert.convert(network, images, progress=False)
    compiled = snn.compile(engine, cache=False)
    torch.testing.assert_close(compiled(images), snn(images), rtol=1e-6, atol=1e-6)
