"""The torch engine: the packed network's words and outputs, bit for bit, on bytes."""

import functools
import random
import warnings

import pytest
import torch
from engine_networks import NETWORKS, RATE_NEURONS, captured, converted, replanned
from slow_cases import mostly_slow
from spiking_graphs import INPUT, packed_codes, random_graph
from torch import fx, nn

import snnconvert
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer import torch_runtime
from snnconvert.engines.integer.compiled import compile_network
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.engines.integer.torch_kernels import missing_kernels
from snnconvert.engines.integer.torch_matrices import IntegerMatrix, is_matrix, with_integer_matrices
from snnconvert.engines.integer.torch_twins import ByteSum, ByteSynapse, FireBytes, PoolBytes, TableBytes
from snnconvert.errors import ConfigurationError, EngineError, InputError
from snnconvert.neurons.current import IntegerScale, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import ConvGeometry, Synapse

SETTINGS = {
    "bits": {"bits": 1, "T": 8},
    "few_bits": {"bits": 2, "T": 2},
    "spikes": {"bits": 2, "T": 4, "residuals": "spikes"},
    "channels": {"bits": 1, "T": 8, "threshold_granularity": "channel"},
    "smoothed": {"bits": 1, "T": 7, "threshold_granularity": "smoothed"},
}
needs_kernels = pytest.mark.skipif(bool(missing_kernels()), reason=missing_kernels())


@functools.cache
def spiking(name, setting="bits"):
    return converted(name, **SETTINGS[setting])


def compiled(name, setting="bits", **options):
    snn, images = spiking(name, setting)
    return snn, snn.compile("torch", **options), images


def modules(engine, kind):
    return [module for module in engine._runtime._graph.modules() if isinstance(module, kind)]


def assert_agrees(snn, engine, images):
    """Every layer's words, and outputs for the whole batch, one sample, and twice."""
    agreement = engine.agreement(images)
    assert [layer.layer for layer in agreement] == [layer for layer, _ in snn.neurons()]
    assert all(layer.words for layer in agreement)
    assert [layer.layer for layer in agreement if layer.mismatches or layer.largest] == []
    expected = snn(images)
    assert torch.equal(engine(images), expected)
    assert torch.equal(engine(images), expected)
    assert torch.equal(engine(images[:1]), snn(images[:1]))
    assert engine(images[:0]).shape == snn(images[:0]).shape


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "name",
    mostly_slow(
        NETWORKS,
        keep=("chain", "residual", "attention", "signed", "conv3d", "transposed_1d", "leaky", "layouts", "windows"),
    ),
)
def test_words_and_outputs_are_the_packed_networks(name, setting):
    snn, engine, images = compiled(name, setting)
    assert engine.engine == "torch"
    assert_agrees(snn, engine, images)


@needs_kernels
@pytest.mark.parametrize("setting", ["bits", "spikes"])
@pytest.mark.parametrize("name", NETWORKS)
def test_products_of_int8_matrices_are_the_packed_networks(name, setting):
    """What runs on GPUs, on the CPU."""
    snn, images = spiking(name, setting)
    lowered = with_integer_matrices(snn.network)
    with torch.no_grad():
        assert torch.equal(lowered.graph(images), snn.network(images))
    left = [module for module in lowered.graph.modules() if isinstance(module, Synapse)]
    assert not any(is_matrix(module) for module in left)
    if name not in ("conv1d", "conv3d"):
        assert any(isinstance(module, IntegerMatrix) for module in lowered.graph.modules())


@needs_kernels
def test_kernels_fire_where_neurons_read_one_synapse():
    _, engine, _ = compiled("geometry")
    fused = [module for module in modules(engine, ByteSynapse) if module.to_bytes is not None]
    assert len(fused) == 4
    assert len(modules(engine, FireBytes)) == 2  # the image's, and those behind the average pool
    assert not modules(engine, Synapse)


def words_in_a_sum(*, late, ceiling, offset):
    """Words that join the currents of a convolution and, with ``late``, are read once more after the sum."""
    generator = torch.Generator().manual_seed(1)

    def convolution(largest, low=0):
        weight = torch.randint(-largest, largest + 1, (8, 8, 3, 3), generator=generator)
        bias = torch.randint(-300, 300, (8,), generator=generator)
        once, same = torch.ones(8, dtype=torch.int32), ConvGeometry((1, 1), (1, 1), (1, 1), 1)
        return Synapse(weight, bias, once, once.double(), geometry=same, weight_bits=8, word_range=(-low, 255 - low))

    def neurons(gain, top=None, offset=0):
        return SpikingNeuron(PackedCode(8, 1, offset), torch.tensor(gain), torch.ones(()), ceiling=top)

    modules = {
        "first": neurons(1.0, offset=offset), "second": neurons(2.0**-7), "third": neurons(2.0**-9, ceiling, offset),
        "a": convolution(60, offset), "b": convolution(20), "c": convolution(60, offset),
        "scale": IntegerScale(torch.tensor(384)), "real": ToReal(torch.ones(())),
    }  # fmt: skip
    graph = fx.Graph()
    first = graph.call_module("first", (graph.placeholder("x"),))
    second = graph.call_module("second", (graph.call_module("a", (first,)),))
    operands = graph.call_module("b", (second,)), graph.call_module("scale", (first,))
    third = graph.call_module("third", (graph.call_function(torch.ops.aten.add.Tensor, operands),))
    total = graph.call_module("c", (third,))
    if late:
        total = graph.call_function(torch.ops.aten.add.Tensor, (total, graph.call_module("scale", (first,))))
    graph.output(graph.call_module("real", (total,)))
    return fx.GraphModule(modules, graph)


def assert_words_agree(network, images):
    signature = Signature.of_one_tensor(images.shape[1:])
    engine = compile_network(network, signature, lambda output: output, "torch", RuntimeOptions(), cache=False)
    assert [layer for layer in engine.agreement(images) if layer.mismatches] == []
    with torch.no_grad():
        expected = network(images)
    for found in (engine(images), engine(images)):
        assert all(torch.equal(*pair) for pair in zip(listed(found), listed(expected), strict=True))
    return engine


def listed(output):
    return [output] if isinstance(output, torch.Tensor) else list(output)


@needs_kernels
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("ceiling", "offset"), [(None, 0), (90, 0), (None, 128), (70, 128)])
def test_kernels_add_words_to_a_convolution(late, ceiling, offset):
    images = 80 * torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    engine = assert_words_agree(words_in_a_sum(late=late, ceiling=ceiling, offset=offset), images)
    assert late in [module.copies for module in modules(engine, ByteSum) if module.to_bytes is not None]


@pytest.mark.parametrize("offset", [127, 31])
def test_odd_zero_points_round_ties_as_the_packed_network_does(offset):
    images = 80 * torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    assert_words_agree(words_in_a_sum(late=False, ceiling=None, offset=offset), images)
    assert_words_agree(words_alone((3, 1), 2.0**-2, (offset, 0, offset)), images)


def words_alone(multipliers, gain, offsets):
    """The words of two layers, added up for a third that a convolution reads."""
    codes = [PackedCode(8, 1, offset) for offset in offsets]
    gains = [torch.tensor(value) for value in (1.0, 0.75, gain)]
    first, second, third = (SpikingNeuron(*pair, torch.ones(())) for pair in zip(codes, gains, strict=True))
    once, same = torch.ones(8, dtype=torch.int32), ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    weight = torch.randint(-60, 61, (8, 8, 3, 3), generator=torch.Generator().manual_seed(0))
    span = (-offsets[2], 255 - offsets[2])
    read = Synapse(weight, 0 * once, once, once.double(), geometry=same, weight_bits=8, word_range=span)
    left, right = (IntegerScale(torch.tensor(multiplier)) for multiplier in multipliers)
    modules = {
        "first": first, "second": second, "third": third, "left": left, "right": right, "read": read,
        "real": ToReal(torch.ones(())),
    }  # fmt: skip
    graph = fx.Graph()
    x = graph.placeholder("x")
    ways = (("first", "left"), ("second", "right"))
    terms = tuple(graph.call_module(scale, (graph.call_module(layer, (x,)),)) for layer, scale in ways)
    total = graph.call_module("third", (graph.call_function(torch.ops.aten.add.Tensor, terms),))
    graph.output(graph.call_module("real", (graph.call_module("read", (total,)),)))
    return fx.GraphModule(modules, graph)


@needs_kernels
@pytest.mark.parametrize("multipliers", [(3, 5), (700, 1), (35_962, 473), (60_000, 6_001)])
@pytest.mark.parametrize("offsets", [(0, 0, 0), (128, 0, 0), (128, 60, 128)])
def test_a_kernel_adds_words(multipliers, offsets):
    images = 80 * torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    gain = 2.0 ** -(max(multipliers).bit_length() - 1)
    engine = assert_words_agree(words_alone(multipliers, gain, offsets), images)
    assert len(modules(engine, ByteSum)) == (sum(multipliers) < 60_000)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    images = torch.randn(3, *INPUT, generator=torch.Generator().manual_seed(0))
    assert_words_agree(random_graph(random.Random(seed), images, packed_codes), images)


@needs_kernels
def test_kernels_add_currents_to_a_convolution():
    _, engine, _ = compiled("residual")
    assert [(module.to_bytes, module.copies) for module in modules(engine, ByteSum)] == [(None, False)] * 2


@needs_kernels
def test_words_are_pooled_and_looked_up_as_bytes():
    assert len(modules(compiled("concat_pools")[1], PoolBytes)) == 1
    assert len(modules(compiled("attention")[1], TableBytes)) == 1


def test_sizes_and_batches_may_change():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    torch.manual_seed(0)
    images = torch.randn(8, 3, 12, 12)
    config = snnconvert.ConversionConfig(bits=2, T=4, dynamic_sizes=True)
    snn = snnconvert.convert(network.eval(), images, config, progress=False)
    engine = snn.compile("torch")
    for shape in [(8, 3, 12, 12), (1, 3, 16, 20), (3, 3, 9, 7)]:
        assert torch.equal(engine(torch.ones(shape)), snn(torch.ones(shape)))
        assert_agrees(snn, engine, torch.randn(shape))


def test_threads_are_given_back():
    before = torch.get_num_threads()
    snn, engine, images = compiled("chain", threads=before + 1)
    seen = []
    engine._runtime._graph.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    assert torch.equal(engine(images), snn(images))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with pytest.raises(InputError):
        engine(images[0])


@pytest.mark.parametrize("name", ["residual", "attention"])
def test_autocast_and_memory_order_change_nothing(name):
    snn, engine, images = compiled(name)
    expected = snn(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(engine(images), expected)
    with torch.inference_mode():
        assert torch.equal(engine(images.contiguous(memory_format=torch.channels_last)), expected)


def test_a_batch_can_be_fixed_and_memory_kept_small():
    snn, engine, images = compiled("chain", batch=4, lean=True)
    assert torch.equal(engine(images[:4]), snn(images[:4]))
    with pytest.raises(InputError, match="built for batches of 4"):
        engine(images)


def test_the_network_is_left_as_it_is():
    snn, _ = spiking("residual")
    before = {name: value.clone() for name, value in snn.network.state_dict().items()}
    code = snn.network.code
    engine = snn.compile("torch")
    assert snn.network.code == code
    assert all(torch.equal(value, before[name]) for name, value in snn.network.state_dict().items())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(engine(images), snn(images))


@needs_kernels
def test_what_runs_in_floating_point_is_listed():
    _, engine, _ = compiled("conv1d")
    found = {(operation.kind, operation.name) for operation in engine.float_operations()}
    assert {("Synapse", "0"), ("Synapse", "3")} <= found
    _, engine, _ = compiled("attention")
    kinds = [operation.kind for operation in engine.float_operations()]
    assert {"aten.softmax.int", "aten.layer_norm.default", "Product"} <= set(kinds)
    assert "Synapse" not in kinds


def test_without_kernels_synapses_run_in_float32(monkeypatch):
    monkeypatch.setattr(torch_runtime, "missing_kernels", lambda: "this CPU's 8-bit products saturate")
    snn, engine, images = compiled("residual")
    assert engine.notes == (
        "this CPU's 8-bit products saturate: synapses run in float32, exactly, but several times slower",
    )
    assert len(modules(engine, Synapse)) == len(list(snn.synapses()))
    assert_agrees(snn, engine, images)


def test_gpus_compute_floats_exactly_for_the_time_of_a_call():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.enabled, matmul.fp32_precision
    with torch_runtime._exact_floats(torch.device("cuda")):
        assert (cudnn.enabled, matmul.fp32_precision) == (False, "ieee")
    assert (cudnn.enabled, matmul.fp32_precision) == before


@needs_kernels
def test_with_kernels_there_is_nothing_to_note():
    assert compiled("residual")[1].notes == ()


def test_other_codes_and_engines_are_refused(monkeypatch):
    spelled, bits, T = RATE_NEURONS["if"]
    prepared, images = captured("chain")
    snn = replanned(prepared, images, neuron=spelled, bits=bits, T=T)
    with pytest.raises(EngineError, match="neurons, not if"):
        snn.compile("torch")
    monkeypatch.setattr(torch_runtime, "missing_kernels", lambda: "there are none")
    with pytest.raises(EngineError, match="neurons, not if"):
        snn.compile("torch")
    with pytest.raises(ConfigurationError, match="onnxruntime, openvino, torch"):
        snn.compile("tensorrt")


@pytest.mark.parametrize("name", mostly_slow(["residual", "concat_pools", "attention"], keep=["residual"]))
def test_the_packed_network_compiles_in_one_graph(name):
    snn, images = spiking(name)
    torch._dynamo.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = torch.compile(snn.network, backend="aot_eager", fullgraph=True)
        assert torch.equal(whole(images), snn.network(images))
