"""Logarithmic words in the integer engines: the very values, at every threshold, and products of any reach."""

import math
from itertools import pairwise

import pytest
import torch
from engine_networks import converted
from slow_cases import mostly_slow
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.compiled import compile_network
from snnconvert.engines.integer.runtime import ENGINES, RuntimeOptions
from snnconvert.errors import EngineError
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product

aten = torch.ops.aten
CODES = [(4, "2")]
MORE_CODES = [(3, "sqrt2"), (1, "2"), (3, "2"), (2, "sqrt2"), (4, "sqrt2")]
PRODUCTS = [(4, "2", 300, 3, "left"), (4, "sqrt2", 900, 1, "right")]
MORE_PRODUCTS = [
    (2, "sqrt2", 40, 3, "right"),
    (3, "2", 300, 1, "left"),
    (4, "2", 30, 3, "left"),
    (4, "2", 300, 1, "right"),
]


@pytest.fixture(params=ENGINES)
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def compiled(network, shape, engine):
    signature = Signature.of_one_tensor(shape)
    return compile_network(network, signature, lambda output: output, engine, RuntimeOptions(threads=2), cache=False)


def neurons(code, gain=1.0):
    return SpikingNeuron(code, torch.tensor(gain), torch.ones(()))


def thresholds(code):
    """Halfway between neighbours, by repeated multiplication."""
    first = {"2": [1], "sqrt2": [12, 17]}[code.base]
    values = [0, *(first[k % len(first)] * 2 ** (k // len(first)) for k in range(code.levels - 1))]
    return values, torch.tensor([(low + high) / 2 for low, high in pairwise(values)])


def with_slow(cases, more):
    return mostly_slow([*cases, *more], keep=len(cases))


@pytest.mark.parametrize(("bits", "base"), with_slow(CODES, MORE_CODES))
@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["openvino"]), indirect=True)
def test_neurons_fire_the_nearest_value_at_every_threshold(bits, base, engine):
    code = LogarithmicCode(1, bits, base=base)
    values, middles = thresholds(code)
    around = [middles, torch.nextafter(middles, middles - 1), torch.nextafter(middles, middles + 1), middles / 3]
    potentials = torch.cat([*around, torch.tensor([-3.0, 0.0, 0.49, 1e9]), torch.tensor(values)])
    expected = torch.tensor([values[sum(bool(u >= c) for c in middles)] for u in potentials])
    graph = fx.Graph()
    graph.output(graph.call_module("real", (graph.call_module("neuron", (graph.placeholder("x"),)),)))
    network = fx.GraphModule({"neuron": neurons(code, 4.0), "real": ToReal(torch.tensor(0.5))}, graph)
    found = compiled(network, potentials.shape, engine)
    assert torch.equal(found(potentials[None] / 4)[0], expected / 2)
    (layer,) = found.agreement(potentials[None] / 4)
    assert (layer.words, layer.mismatches) == (len(potentials), 0)


def attention(code, images, *, multiplier=1, side="left", real=True):
    """Words of a logarithmic code and packed ones, moved, multiplied and fired again."""
    packed, terms = PackedCode(8, 1, 128), images.shape[-1]
    largest = code.largest_value if side != "right" else 128, code.largest_value if side != "left" else 128, terms
    modules = {
        "first": neurons(code if side != "right" else packed, code.largest_value / 4.0),
        "second": neurons(code if side != "left" else packed, 40.0),
        "product": Product("matmul", 1.0, torch.tensor(multiplier), largest),
        "third": neurons(packed),
        "real": ToReal(torch.tensor(0.25)),
    }
    graph = fx.Graph()
    x = graph.placeholder("x")
    first, second = (graph.call_module(name, (x,)) for name in ("first", "second"))
    moved = graph.call_function(aten.transpose.int, (second, -1, -2))
    product = graph.call_module("product", (first, moved))
    again = graph.call_module("third", (product,))
    graph.output(graph.call_module("real", (again,)) if real else product)
    network = fx.GraphModule(modules, graph)
    currents = network.product(network.first(images), network.second(images).transpose(-1, -2))
    network.third.gain = torch.tensor(100 / 2 ** math.ceil(math.log2(float(currents.abs().max()))))
    return network


@pytest.mark.parametrize(("bits", "base", "terms", "multiplier", "side"), with_slow(PRODUCTS, MORE_PRODUCTS))
@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["openvino"]), indirect=True)
def test_products_are_exact_whatever_their_reach(bits, base, terms, multiplier, side, engine):
    code = LogarithmicCode(bits, 1, base=base)
    images = torch.randn(3, 4, terms, generator=torch.Generator().manual_seed(0)) * 2
    network = attention(code, images, multiplier=multiplier, side=side)
    found = compiled(network, images.shape[1:], engine)
    assert [layer for layer in found.agreement(images) if layer.mismatches] == []
    assert torch.equal(found(images), network(images))
    assert len(network(images).unique()) > 10


@pytest.mark.parametrize("engine", mostly_slow(["onnxruntime", "openvino"], keep=["onnxruntime"]))
def test_sums_of_more_than_24_bits_are_rounded_once(engine):
    """What enters the neurons: float32 numbers next to integers that float32 doesn't hold."""
    pytest.importorskip(engine)
    code = LogarithmicCode(4, 1)
    images = torch.rand(2, 8, 300, generator=torch.Generator().manual_seed(0)) * 4
    network = attention(code, images, real=False)
    expected = network(images)
    assert expected.dtype == torch.float64
    assert (expected.float().double() != expected).any()
    assert torch.equal(compiled(network, images.shape[1:], engine)(images).float(), expected.float())


@pytest.mark.slow
def test_products_of_two_logarithmic_words(engine):
    images = torch.rand(3, 4, 40, generator=torch.Generator().manual_seed(0))
    network = attention(LogarithmicCode(3, 1), images, side="both")
    found = compiled(network, images.shape[1:], engine)
    assert torch.equal(found(images), network(images))
    assert {layer.mismatches for layer in found.agreement(images)} == {0}


@pytest.mark.parametrize(
    ("name", "code"), with_slow([("attention", "log-sqrt2")], [("attention", "log2"), ("class_token", "log-sqrt2")])
)
@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["torch"]), indirect=True)
def test_attention_maps(name, code, engine):
    """Behind a softmax in floating point, whose last bit is the runtime's own."""
    snn, images = converted(name, bits=2, T=2, attention_code=code)
    fast = snn.compile(engine, threads=2, cache=False)
    agreement = fast.agreement(images)
    assert [layer.layer for layer in agreement] == [layer for layer, _ in snn.neurons()]
    differing = sum(layer.mismatches for layer in agreement)
    assert differing <= (0 if engine == "torch" else sum(layer.words for layer in agreement) // 500)
    torch.testing.assert_close(fast(images), snn(images), rtol=0.02, atol=0.02)
    if engine == "torch":
        assert torch.equal(fast(images), snn(images))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_is_beyond_float32_is_refused_by_name(engine):
    pytest.importorskip(engine)
    snn, images = converted("attention", bits=1, T=8, attention_code="log2")
    with pytest.raises(
        EngineError, match=r"^softmax: its values reach [\d,]+, more .* choose engine torch, fewer bits"
    ):
        snn.compile(engine, cache=False)
    assert torch.equal(snn.compile("torch")(images), snn(images))
    network = attention(LogarithmicCode(4, 1), torch.rand(2, 2, 1 << 13))
    with pytest.raises(EngineError, match=r"^product: its sums reach .*, more than this engine has"):
        compiled(network, (2, 1 << 13), engine)
