"""Which softmax outputs take the code for attention maps, and what the plan says of the others."""

import functools

import pytest
import torch
from graph_helpers import Net, canonical
from slow_cases import mostly_slow
from torch import nn

from snnconvert.config import ConversionConfig
from snnconvert.convert.planner import make_plan
from snnconvert.errors import ConfigurationError
from snnconvert.report.tables import plan_table

TOKENS = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def scores(n, x):
    q, k, v = n.qkv(x).chunk(3, -1)
    return (q @ k.transpose(-2, -1) * 0.35), v


def plain(n, x):
    s, v = scores(n, x)
    return n.head(s.softmax(-1) @ v)


def through_layouts(n, x):
    s, v = scores(n, x)
    weights = s.softmax(-1).unsqueeze(1).transpose(-2, -1)
    return n.head((v.transpose(-2, -1).unsqueeze(1) @ weights).squeeze(1).transpose(-2, -1))


def masked_to_zero(n, x):
    s, v = scores(n, x)
    return n.head(s.softmax(-1).masked_fill(torch.ones(6, 6).triu(1).bool(), 0.0) @ v)


def read_by_weights_too(n, x):
    s, v = scores(n, x)
    weights = s.softmax(-1)
    return n.head(weights @ v) + n.other(weights)


def both_sides(n, x):
    s, v = scores(n, x)
    return n.head((s.softmax(-1) @ s.softmax(-2)) @ v)


def last(n, x):
    s, v = scores(n, x)
    return s.softmax(-1) @ v


def filled_with_one(n, x):
    s, v = scores(n, x)
    return n.head(s.softmax(-1).masked_fill(torch.ones(6, 6).triu(1).bool(), 1.0) @ v)


def sigmoid(n, x):
    s, v = scores(n, x)
    return n.head(s.sigmoid() @ v)


@functools.cache
def graph(forward):
    parts = {"qkv": nn.Linear(8, 24), "head": nn.Linear(8, 8), "other": nn.Linear(6, 8)}
    return canonical(Net(forward, **parts), TOKENS)


def planned(forward, code="log2", **settings):
    return make_plan(graph(forward), ConversionConfig(attention_code=code, **settings))


def neurons(plan):
    return [site.neuron for site in plan.sites]


@pytest.mark.parametrize("code", ["log2", "log-sqrt2"])
@pytest.mark.parametrize(
    "forward", mostly_slow([plain, through_layouts, masked_to_zero, both_sides], keep=[plain, both_sides])
)
def test_maps_that_only_products_read_take_the_code(forward, code):
    plan, uniform = planned(forward, code), planned(forward, "uniform")
    name = {"log2": "log", "log-sqrt2": "log:base=sqrt2"}[code]
    maps = 2 if forward is both_sides else 1
    assert neurons(plan).count(name) == maps
    assert set(neurons(uniform)) == {"packed"}
    assert plan.notes == (f"attention maps in {code} code at {maps} of {maps} softmax outputs",)
    assert uniform.notes == ()
    assert [(s.bits, s.T) for s in plan.sites] == [(s.bits, s.T) for s in uniform.sites]
    assert [s.bit_budget for s in plan.synapses] == [s.bit_budget for s in uniform.synapses]
    assert [s.weight_bits for s in plan.synapses] == [s.weight_bits for s in uniform.synapses]


def test_a_map_that_weights_read_stays_uniform_and_the_plan_says_why():
    plan = planned(read_by_weights_too)
    assert set(neurons(plan)) == {"packed"}
    (note,) = plan.notes
    assert (
        note == "attention maps in log2 code at 0 of 1 softmax outputs, uniform where a layer with weights reads it (1)"
    )
    assert plan_table(plan).endswith(f"note: {note}")


@pytest.mark.parametrize("forward", [sigmoid, filled_with_one])
def test_a_network_without_attention_maps(forward):
    plan = planned(forward)
    assert set(neurons(plan)) == {"packed"}
    assert plan.notes == ("attention_code log2 changes nothing: no product of two activations reads a softmax",)


def test_the_last_product_reads_wider_words():
    plan = planned(last, bits=1, T=3)
    (site,) = [site for site in plan.sites if site.neuron.startswith("log")]
    assert site.bits * site.T == 8
    assert len(site.code.words) == 256


def test_overrides_set_widths_and_can_name_other_neurons():
    product = planned(plain).synapses[-2]
    assert product.neuron == "log"
    wider = planned(plain, overrides={product.layer: {"bits": 1, "T": 6}})
    assert [(s.bits, s.T) for s in wider.sites if s.neuron.startswith("log")] == [(1, 6)]
    for neuron in ("packed", "if"):
        told = planned(plain, overrides={product.layer: {"neuron": neuron}})
        assert not any(name.startswith("log") for name in neurons(told))
        assert "0 of 1 softmax outputs, uniform where an override names its neurons (1)" in told.notes[0]


@pytest.mark.parametrize("wrong", ["", "log", "LOG2", None, 2])
def test_unknown_codes_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="attention_code must be one of uniform, log2, log-sqrt2"):
        ConversionConfig(attention_code=wrong)


def test_other_neurons_than_packed_ones_are_refused():
    with pytest.raises(ConfigurationError, match="attention_code log2 needs packed neurons, got if"):
        ConversionConfig(attention_code="log2", neuron="if", bits=1, T=8)
    assert ConversionConfig(attention_code="uniform", neuron="if", bits=1, T=8)


def test_logarithmic_neurons_are_no_general_choice():
    with pytest.raises(ConfigurationError, match=r"log neurons don't add up.*attention_code"):
        ConversionConfig(neuron="log:base=2")
    with pytest.raises(ConfigurationError, match=r"^override 'fc': spikes of log neurons don't add up"):
        ConversionConfig(overrides={"fc": {"neuron": "log"}})


def test_settings_are_read_back():
    config = ConversionConfig(attention_code="log-sqrt2")
    assert ConversionConfig.from_dict(config.to_dict()) == config
    earlier = {key: value for key, value in config.to_dict().items() if key != "attention_code"}
    assert ConversionConfig.from_dict(earlier).attention_code == "uniform"
