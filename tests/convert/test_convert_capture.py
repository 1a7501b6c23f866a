import copy

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, norm
from slow_cases import mostly_slow
from torch import nn

from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import capture
from snnconvert.convert.names import layer_name
from snnconvert.errors import ConversionError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def refused(net, example=X):
    with pytest.raises(ConversionError) as error:
        capture(net, example)
    message = str(error.value)
    assert "\n" not in message
    assert message
    return message


def residual():
    def forward(net, x):
        y = F.relu(net.bn1(net.conv1(x)), inplace=True)
        y += x.mean(1, keepdim=True)
        return net.fc(net.drop(y).flatten(1))

    return Net(forward, conv1=nn.Conv2d(3, 4, 3, padding=1), bn1=norm(4), drop=nn.Dropout(0.5), fc=nn.Linear(256, 5))


@pytest.mark.parametrize("size", [1, 3])
def test_graph_equals_the_model_at_any_batch_size(size):
    net = residual()
    graph = capture(net, torch.randn(size, 3, 8, 8))
    for batch in (1, 2, 5, 11):
        x = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(graph(x), net(x), rtol=1e-5, atol=1e-5)


def test_parameters_and_layers_keep_their_names():
    graph = capture(Net(lambda net, x: net.body(x), body=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), X)
    assert {str(n.target) for n in graph.graph.nodes if n.op == "get_attr"} == {"body.0.weight", "body.0.bias"}
    stacks = [
        [entry[0] for entry in n.meta["nn_module_stack"].values()] for n in graph.graph.nodes if n.op == "call_function"
    ]
    assert [stack[-1] for stack in stacks] == ["body.0", "body.1"]


def test_nothing_in_the_graph_works_in_place():
    graph = capture(residual(), X)
    before = X.clone()
    graph(X)
    assert torch.equal(X, before)
    assert not any(
        str(node.target).split(".")[-2].endswith("_") for node in graph.graph.nodes if "aten." in str(node.target)
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_untouched(training):
    net = residual()
    net.conv1.requires_grad_(False)
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    calls = []
    net.fc.register_forward_hook(lambda *args: calls.append(1))
    net.train(training)
    net.drop.eval()
    state = copy.deepcopy(net.state_dict())
    modes = {name: module.training for name, module in net.named_modules()}
    ids = [id(parameter) for parameter in net.parameters()]
    requires = [parameter.requires_grad for parameter in net.parameters()]
    example = X.clone().requires_grad_()
    capture(net, example)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert [id(parameter) for parameter in net.parameters()] == ids
    assert [parameter.requires_grad for parameter in net.parameters()] == requires
    assert len(net.fc._forward_hooks) == 1
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert example.grad is None
    assert torch.equal(example, X)


def test_the_graph_does_not_share_the_models_weights():
    net = Net(lambda net, x: net.conv(x), conv=nn.Conv2d(3, 4, 3))
    graph = capture(net, X)
    expected = graph(X)
    with torch.no_grad():
        net.conv.weight.zero_()
    assert torch.equal(graph(X), expected)


@pytest.mark.parametrize("dtype", mostly_slow([torch.float16, torch.bfloat16, torch.float64], keep=1))
def test_other_precisions_become_float32(dtype):
    net = residual().to(dtype)
    graph = capture(net, X.to(dtype))
    assert next(net.parameters()).dtype == dtype
    assert all(t.dtype != dtype for t in graph.buffers())
    reference = copy.deepcopy(net).float()
    with torch.no_grad():
        torch.testing.assert_close(graph(X), reference(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: None,
        lambda net, x: {"size": x.shape[1]},
        lambda net, x: (net.conv(x), {1, 2}),
    ],
)
def test_outputs_without_tensors(forward):
    assert "returns" in refused(Net(forward, conv=nn.Conv2d(3, 4, 3)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("tensor", ["conv1.weight", "bn1.running_var", "fc.bias"])
def test_non_finite_weights_are_named(tensor, bad):
    net = residual()
    with torch.no_grad():
        net.state_dict()[tensor].view(-1)[1] = bad
    assert tensor in refused(net)


def test_masks_of_minus_infinity_are_no_broken_weights():
    net = Net(lambda net, x: torch.softmax(net.fc(x) + net.mask, -1), fc=nn.Linear(8, 8))
    net.register_buffer("mask", torch.triu(torch.full((8, 8), -torch.inf), 1))
    capture(net, X)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.conv(x) if x.sum() > 0 else x,
        lambda net, x: net.conv(x) * float(x.mean()),
    ],
    ids=["branch", "float()"],
)
def test_control_flow_on_values_is_refused(forward):
    refused(Net(forward, conv=nn.Conv2d(3, 4, 3)), X.abs() + 0.1)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.conv(x.reshape(2, 3, 8, 8)),
        lambda net, x: net.conv(x).sum(0),
        lambda net, x: net.conv(x).mean(),
        lambda net, x: net.conv(x).reshape(-1, 4),
        lambda net, x: net.conv(x) if x.shape[0] > 2 else net.conv(x) * 2,
        lambda net, x: F.dropout(net.conv(x), 0.5, training=True),
        lambda net, x: net.conv(x) + torch.randn_like(net.conv(x)),
    ],
    ids=["fixed batch", "sum of batch", "scalar", "folded batch", "branch on size", "dropout", "noise"],
)
def test_the_batch_must_not_matter(forward):
    refused(Net(forward, conv=nn.Conv2d(3, 4, 3)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.conv(x - x.mean(0, keepdim=True)),
        lambda net, x: net.conv(x) * x.shape[0],
        lambda net, x: F.batch_norm(net.conv(x), None, None, training=True),
    ],
    ids=["mean of batch", "size of batch", "batch statistics"],
)
def test_samples_must_not_see_each_other(forward):
    refused(Net(forward, conv=nn.Conv2d(3, 4, 3)))


def test_the_models_own_failures_name_the_shape():
    net = Net(lambda net, x: net.fc(x.flatten(1)), fc=nn.Linear(10, 2))
    message = refused(net)
    assert "Net fails on an input of shape (3, 3, 8, 8)" in message
    assert "shapes" in message
    net = Net(lambda net, x: (_ for _ in ()).throw(ValueError("first line\nsecond line")))
    assert refused(net).endswith("first line")
    net = Net(lambda net, x: (_ for _ in ()).throw(KeyError()))
    assert "KeyError" in refused(net)


def test_two_inputs_are_refused():
    refused(nn.Bilinear(8, 8, 2))


def test_an_example_needs_a_sample():
    refused(residual(), X[:0])


def test_refusals_are_quiet(capfd):
    refused(Net(lambda net, x: net.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(3, 4, 3)), X.abs())
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ["code", "graph", "meta", "recompile", "_graph", "forward_hooks"], keep=["graph", "meta", "forward_hooks"]
    ),
)
def test_layers_may_be_called_like_attributes_of_a_graph_module(name):
    net = nn.Sequential()
    net.add_module(name, nn.Conv2d(3, 4, 1))
    graph = canonicalize(capture(net.eval(), torch.randn(2, 3, 4, 4)))
    assert [layer_name(node) for node in graph.graph.nodes if node.op == "call_function"] == [name]
