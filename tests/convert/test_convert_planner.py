import functools

import pytest
import timm
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical, norm, plan_of
from slow_cases import mostly_slow
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import snnconvert
from snnconvert.config import ConversionConfig
from snnconvert.convert.flow import Carrier, infer_flows
from snnconvert.convert.planner import make_plan
from snnconvert.errors import ConfigurationError, ConversionError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def residual_forward(n, x):
    y = F.relu(n.conv1(x))
    z = F.relu(n.conv2(y))
    z = F.relu(n.conv3(z) + y)
    return n.fc(z.mean((2, 3)))


@functools.cache
def residual_graph():
    net = Net(residual_forward, conv1=conv(3, 4), conv2=conv(4, 4), conv3=conv(4, 4), fc=nn.Linear(4, 5))
    return canonical(net, X)


def residual_plan(**settings):
    return make_plan(residual_graph(), ConversionConfig(**settings))


def sites(plan):
    return [(site.origin, site.layer) for site in plan.sites]


def test_residual_network():
    plan = residual_plan()
    assert sites(plan) == [
        ("input", "x"), ("activation", "relu"), ("activation", "relu#2"), ("activation", "relu#3"),
        ("inserted", "mean"),
    ]  # fmt: skip
    assert [(s.layer, s.op, s.reads_input) for s in plan.synapses] == [
        ("conv1", "conv2d", True), ("conv2", "conv2d", False), ("conv3", "conv2d", False), ("fc", "linear", False),
    ]  # fmt: skip
    assert plan.analog == ()
    assert plan.coverage == 1.0
    assert len({site.family for site in plan.sites}) == 5


def test_macs_by_hand():
    plan = residual_plan()
    per_layer = {"conv1": 64 * 4 * 3 * 9, "conv2": 64 * 4 * 4 * 9, "conv3": 64 * 4 * 4 * 9, "fc": 4 * 5}
    assert {s.layer: s.macs for s in plan.synapses} == per_layer
    assert plan.total_macs == plan.spiking_macs == sum(per_layer.values())
    budget = {"conv1": 8 * 8, "conv2": 2 * 4 * 5, "conv3": 2 * 4 * 5, "fc": 2 * 4 * 8}
    plan = residual_plan(weight_bits=5)
    assert {s.layer: s.bit_budget for s in plan.synapses} == budget
    mean = sum(per_layer[name] * budget[name] for name in budget) / sum(per_layer.values())
    assert plan.bit_budget == pytest.approx(mean)


def test_bits_of_input_first_and_last_layers():
    plan = residual_plan(bits=1, T=3, weight_bits=4, first_last_weight_bits=7, input_bits=6)
    assert [(s.layer, s.bits, s.T, s.weight_bits) for s in plan.synapses] == [
        ("conv1", 6, 1, 7), ("conv2", 1, 3, 4), ("conv3", 1, 3, 4), ("fc", 4, 2, 7),
    ]  # fmt: skip
    assert [(s.bits, s.T) for s in plan.sites] == [(6, 1), (1, 3), (1, 3), (4, 2), (4, 2)]
    plan = residual_plan(bits=1, T=3, shortcut_bits=3, last_bits=2)
    assert [(s.bits, s.T) for s in plan.sites] == [(8, 1), (1, 3), (1, 3), (1, 3), (1, 3)]


def test_overrides():
    plan = residual_plan(
        overrides={r"conv[23]": {"bits": 1, "weight_bits": 3}, "conv3": {"T": 2}, "fc": {"weight_bits": 5}}
    )
    assert [(s.layer, s.bits, s.T, s.weight_bits) for s in plan.synapses] == [
        ("conv1", 8, 1, 8), ("conv2", 1, 4, 3), ("conv3", 1, 2, 3), ("fc", 2, 4, 5),
    ]  # fmt: skip


def test_overrides_that_only_fit_together():
    plan = residual_plan(bits=2, T=4, overrides={r"conv[23]": {"bits": 1}, "conv3": {"T": 8}})
    assert [(s.bits, s.T) for s in plan.synapses][1:3] == [(1, 4), (1, 8)]


def test_override_of_the_input_spikes():
    plan = residual_plan(overrides={"conv1": {"bits": 4, "T": 2}})
    assert (plan.sites[0].bits, plan.sites[0].T) == (4, 2)


def test_half_an_override_of_the_input_spikes():
    plan = residual_plan(bits=2, T=2, overrides={"conv1": {"bits": 4}})
    assert (plan.sites[0].bits, plan.sites[0].T) == (4, 1)


def test_an_analog_layer_is_named_with_its_reason():
    plan = residual_plan(overrides={"conv2": {"analog": True}})
    reasons = {item.layer: item.reason for item in plan.analog}
    assert reasons == {"conv2": "kept analog by an override"}
    assert [s.layer for s in plan.synapses] == ["conv1", "conv3", "fc"]
    conv2 = 64 * 4 * 4 * 9
    assert plan.coverage == pytest.approx(1 - conv2 / residual_plan().total_macs)


def test_everything_analog_is_refused():
    with pytest.raises(ConversionError, match=r"no layer would read spikes.*conv1: kept analog"):
        residual_plan(overrides={".*": {"analog": True}})
    with pytest.raises(ConversionError, match="no convolution or linear layer"):
        plan_of(Net(lambda n, x: F.relu(x)), X)


@pytest.mark.parametrize(("pattern", "near"), [("conv4", "conv"), ("fcc", "fc"), (r"con\d", "conv"), ("relu", "")])
def test_overrides_that_match_nothing(pattern, near):
    with pytest.raises(ConfigurationError) as error:
        residual_plan(overrides={pattern: {"bits": 1}})
    assert repr(pattern) in str(error.value)
    assert near in str(error.value).split("near matches: ")[-1]
    assert "\n" not in str(error.value)


def test_merged_overrides_that_exceed_a_word_name_the_layer():
    with pytest.raises(ConfigurationError, match="conv2"):
        residual_plan(bits=2, T=2, overrides={r"conv[23]": {"bits": 4}, "conv2": {"T": 4}})


def test_readers_of_the_same_spikes_must_agree():
    net = Net(lambda n, x: n.b(y := F.relu(n.a(x))) + n.c(y), a=conv(3, 4), b=conv(4, 4), c=conv(4, 4))
    graph = canonical(net, X)
    with pytest.raises(ConfigurationError, match="b and c read the same spikes"):
        make_plan(graph, ConversionConfig(overrides={"b": {"bits": 1}, "c": {"bits": 2}}))
    plan = make_plan(graph, ConversionConfig(overrides={"b": {"bits": 1}, "c": {"bits": 1, "weight_bits": 3}}))
    assert [(s.bits, s.weight_bits) for s in plan.synapses] == [(8, 8), (1, 8), (1, 3)]
    plan = make_plan(graph, ConversionConfig(overrides={"b": {"bits": 1}}))
    assert [s.bits for s in plan.synapses] == [8, 1, 1]  # one tensor of spikes has one code


def test_concatenated_spikes_share_a_threshold():
    def forward(n, x):
        a, b = F.relu(n.a(x)), F.relu(n.b(x))
        return n.d(torch.cat([a, b], 1)) + n.c(F.relu(n.e(b)))

    net = Net(forward, a=conv(3, 4), b=conv(3, 5), c=conv(2, 2), d=conv(9, 2), e=conv(5, 2))
    plan = plan_of(net, X)
    families = {site.layer: site.family for site in plan.sites}
    assert families["relu"] == families["relu#2"] != families["relu#3"]
    assert plan.analog == ()
    assert {s.layer: s.family for s in plan.synapses}["d"] == families["relu"]
    with pytest.raises(ConfigurationError, match="same spikes"):
        plan_of(net, X, overrides={"d": {"bits": 1}, "e": {"T": 2}})


def test_max_pool_of_shared_spikes_gets_a_repeater():
    def forward(n, x):
        y = F.relu(n.a(x))
        return n.b(F.max_pool2d(y, 2)).mean((2, 3)) + n.c(y).mean((2, 3))

    plan = plan_of(Net(forward, a=conv(3, 4), b=conv(4, 4), c=conv(4, 4)), X)
    families = {(site.origin, site.layer): site.family for site in plan.sites}
    assert families["repeater", "max_pool2d"] == families["activation", "relu"]
    assert plan.analog == ()
    assert plan.coverage == 1.0


def test_max_pool_after_a_single_rectifier_needs_no_repeater():
    plan = plan_of(Net(lambda n, x: n.b(F.max_pool2d(F.relu(n.a(x)), 2)), a=conv(3, 4), b=conv(4, 4)), X)
    assert sites(plan) == [("input", "x"), ("activation", "relu")]


def test_attention():
    def forward(n, x):
        tokens = n.proj(x).flatten(2).transpose(1, 2)
        q, k, v = n.qkv(n.norm(tokens)).chunk(3, -1)
        weights = (q @ k.transpose(1, 2)).softmax(-1)
        return n.out(weights @ v)

    net = Net(forward, proj=nn.Conv2d(3, 6, 2, 2), norm=nn.LayerNorm(6), qkv=nn.Linear(6, 18), out=nn.Linear(6, 6))
    plan = plan_of(net, X)
    assert [s.op for s in plan.synapses] == ["conv2d", "linear", "matmul", "matmul", "linear"]
    reasons = {item.op: item.reason for item in plan.analog}
    assert "acts on membrane potentials" in reasons["softmax"]
    assert "layer_norm" in reasons
    products = 2 * 16 * 16 * 6
    synapses = 16 * 6 * 12 + 16 * 6 * 18 + 16 * 6 * 6
    assert sum(item.macs for item in plan.synapses if item.held is not None) == products
    assert plan.spiking_macs == synapses + products
    assert plan.coverage == 1.0


def attention_macs(attend):
    net = Net(lambda n, x: n.out(attend(*n.qkv(x[:, :, 0]).chunk(3, -1))), qkv=nn.Linear(8, 24), out=nn.Linear(8, 8))
    plan = plan_of(net, X)
    assert not any(item.macs for item in plan.analog)
    return sum(item.macs for item in plan.synapses if item.held is not None)


def test_attention_costs_the_same_however_it_is_written():
    expected = 2 * 3 * 3 * 8
    assert attention_macs(lambda q, k, v: (q @ k.mT).softmax(-1) @ v) == expected
    assert attention_macs(F.scaled_dot_product_attention) == expected


def test_attention_by_einsum_costs_the_same():
    def attend(q, k, v):
        return torch.einsum("nij,njd->nid", torch.einsum("nid,njd->nij", q, k).softmax(-1), v)

    assert attention_macs(attend) == 2 * 3 * 3 * 8


def test_pre_activation_norms_become_neurons():
    def forward(n, x):
        y = n.a(x)
        y = y + n.b(F.relu(n.n1(y)))
        return n.c(F.relu(n.n2(y)))

    net = Net(forward, a=conv(3, 4), b=conv(4, 4), c=conv(4, 2), n1=norm(4), n2=norm(4))
    plan = plan_of(net, X)
    activations = [site for site in plan.sites if site.origin == "activation"]
    assert [site.affine is not None for site in activations] == [True, True]
    assert plan.analog == ()


def test_a_norm_that_others_read_stays_analog():
    def forward(n, x):
        y = n.n1(n.a(x) + n.b(x))
        return n.c(F.relu(y)).mean((2, 3)) + y.mean((2, 3))

    plan = plan_of(Net(forward, a=conv(3, 4), b=conv(3, 4), c=conv(4, 4), n1=norm(4)), X)
    assert {item.layer: item.reason for item in plan.analog}["n1"].endswith("read by more than rectifying neurons")


def test_rectifiers_no_synapse_reads_stay():
    plan = plan_of(Net(lambda n, x: F.relu(n.a(x)), a=conv(3, 4)), X)
    assert [(item.layer, item.reason) for item in plan.analog] == [("relu", "no synapse reads it")]


def test_what_prepares_the_input():
    plan = plan_of(Net(lambda n, x: n.a((x - 0.5).exp()), a=conv(3, 4)), X)
    assert {item.reason for item in plan.analog} == {"prepares the network's input"}
    assert [site.origin for site in plan.sites] == ["input"]


def test_weights_computed_from_parameters_are_synapses():
    net = Net(lambda n, x: n.b(F.relu(F.conv2d(x, n.w * 2 + n.w))), b=conv(4, 2))
    net.w = nn.Parameter(torch.randn(4, 3, 3, 3))
    plan = plan_of(net, X)
    assert [item.op for item in plan.synapses] == ["conv2d", "conv2d"]
    assert plan.synapses[0].macs == 36 * 4 * 27
    assert plan.analog == ()


def test_pools_that_round_up_stay_analog():
    net = Net(lambda n, x: F.avg_pool2d(n.a(x), 3, 2, ceil_mode=True, divisor_override=9), a=conv(3, 4))
    assert any(item.op == "avg_pool2d" for item in plan_of(net, X).analog)


def test_pools_that_would_round_up_have_nothing_to_round():
    net = Net(lambda n, x: F.avg_pool2d(n.a(x), 2, 2, ceil_mode=True, count_include_pad=False), a=conv(3, 4))
    assert plan_of(net, X).analog == ()
    snn = snnconvert.convert(net, X, progress=False)
    torch.testing.assert_close(snn(X), net(X), rtol=0.05, atol=0.02)


def flows_of(net, example):
    graph = canonical(net, example)
    names = frozenset(s.node for s in make_plan(graph, ConversionConfig()).synapses)
    flows = infer_flows(graph.graph, {}, names)
    return {str(node.target): flows[node.name] for node in graph.graph.nodes if node.op == "call_function"}


def test_a_pool_over_the_channels_of_tokens_is_real():
    net = Net(lambda n, x: F.max_pool1d(n.a(x), 2), a=nn.Linear(8, 8))
    assert flows_of(net, X[:, :, 0])["aten.max_pool1d.default"].carrier is Carrier.REAL


@pytest.mark.parametrize(
    "function",
    mostly_slow(
        [
            lambda y: y.permute(0, 2, 3, 1),
            lambda y: F.pixel_shuffle(y, 2),
            lambda y: y.flatten(1),
            lambda y: y.mean(1),
        ],
        keep=2,
    ),
)
def test_currents_whose_channels_move_become_real(function):
    net = Net(lambda n, x: n.b(function(n.a(x))), a=conv(3, 4), b=nn.Identity())
    flows = [flow for name, flow in flows_of(net, X).items() if "conv2d" not in name and "sym_size" not in name]
    assert flows
    assert all(flow.carrier is Carrier.REAL for flow in flows)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("mobilenetv2_100", marks=pytest.mark.slow)])
def test_macs_agree_with_pytorchs_own_counter(name):
    model = timm.create_model(name, pretrained=False).eval()
    example = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    plan = plan_of(model, example)
    assert plan.total_macs * 2 == counter.get_total_flops()
    assert plan.coverage == 1.0
    assert plan.analog == ()
    layers = {name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert {synapse.layer for synapse in plan.synapses} == layers
    assert [s.layer for s in plan.synapses if s.reads_input] == ["conv1" if name == "resnet18" else "conv_stem"]
