import itertools
import time

import pytest
import timm
import torch
from graph_helpers import Net, count
from pass_checks import check, computing, parameters_of_synapses, targets
from slow_cases import mostly_slow
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.passes.lower_recurrent import MOST_STEPS, lower_recurrent

X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
everything = pytest.mark.parametrize("kind", KINDS)
some = pytest.mark.parametrize("kind", mostly_slow(KINDS, keep=["lstm", "relu"]))


def recurrent(kind, inputs=6, hidden=5, **options):
    torch.manual_seed(1)
    return KINDS[kind](inputs, hidden, **options)


def lowered(function, module, x=X, *, unrolled=1):
    net = Net(function, m=module)
    graph = capture(net, x)
    before = count(graph, "aten.lstm", "aten.gru", "aten.rnn_")
    graph = lower_recurrent(graph)
    assert before - count(graph, "aten.lstm", "aten.gru", "aten.rnn_") == unrolled
    check(graph, net, x)
    return graph


@everything
@pytest.mark.parametrize(
    ("bidirectional", "bias", "layers"),
    mostly_slow(itertools.product([True, False], [True, False], [1, 2]), keep=[(True, True, 2), (False, False, 1)]),
)
def test_sequences(kind, layers, bidirectional, bias):
    module = recurrent(kind, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=True)
    graph = lowered(lambda n, x: n.m(x)[0], module)
    runs = layers * (2 if bidirectional else 1)
    assert targets(graph).count("linear") == runs * (1 + 4)
    names = parameters_of_synapses(graph)
    assert names.count("m.weight_ih_l0") == 1
    assert names.count("m.weight_hh_l0") == 4


@some
def test_time_in_front(kind):
    module = recurrent(kind, bidirectional=True)
    lowered(lambda n, x: n.m(x.transpose(0, 1))[0].transpose(0, 1), module)


@some
@pytest.mark.parametrize("layers", mostly_slow([1, 2], keep=[2]))
def test_final_states(kind, layers):
    module = recurrent(kind, num_layers=layers, bidirectional=True, batch_first=True)

    def forward(n, x):
        _, states = n.m(x)
        states = states if isinstance(states, tuple) else (states,)
        return torch.cat([state.transpose(0, 1).flatten(1) for state in states], 1)

    lowered(forward, module)


@some
def test_given_states(kind):
    module = recurrent(kind, num_layers=2, batch_first=True)

    def forward(n, x):
        start = torch.stack([x[:, 0, :5], x[:, 1, :5]])
        return n.m(x, (start, start * 2) if kind == "lstm" else start)[0]

    lowered(forward, module)


@some
def test_one_step(kind):
    lowered(lambda n, x: n.m(x[:, :1])[0], recurrent(kind, batch_first=True))


def test_dropout_between_layers_is_off():
    lowered(lambda n, x: n.m(x)[0], recurrent("gru", num_layers=2, dropout=0.5, batch_first=True))


def test_projections():
    lowered(lambda n, x: n.m(x)[0], recurrent("lstm", proj_size=3, batch_first=True))
    module = recurrent("lstm", proj_size=3, num_layers=2, bidirectional=True, bias=False, batch_first=True)
    lowered(lambda n, x: torch.cat([n.m(x)[0][:, -1], n.m(x)[1][0][-1], n.m(x)[1][1][0]], 1), module, unrolled=3)


def test_sequences_of_more_steps_than_are_unrolled_stay(monkeypatch):
    monkeypatch.setitem(lower_recurrent.__globals__, "MOST_STEPS", 3)
    x = torch.randn(1, 4, 6)
    lowered(lambda n, x: n.m(x)[0], recurrent("tanh", batch_first=True), x, unrolled=0)
    lowered(lambda n, x: n.m(x[:, 1:])[0], recurrent("tanh", batch_first=True), x)


@pytest.mark.slow
def test_long_sequences_stay():
    x = torch.randn(1, MOST_STEPS + 1, 6)
    lowered(lambda n, x: n.m(x)[0], recurrent("tanh", batch_first=True), x, unrolled=0)
    lowered(lambda n, x: n.m(x[:, 1:])[0], recurrent("tanh", batch_first=True), x)


def test_sequences_of_unknown_length_stay():
    """torch.export fixes the length of every sequence; should it not, the layer stays."""
    graph = capture(Net(lambda n, x: n.m(x)[0], m=recurrent("tanh", batch_first=True)), X)
    (node,) = [node for node in computing(graph) if "rnn_tanh" in str(node.target)]
    node.args = (*node.args[:-1], False)
    assert count(lower_recurrent(graph), "rnn_tanh") == 1


@pytest.mark.slow
def test_sequencer():
    torch.manual_seed(2)
    net = timm.create_model("sequencer2d_s", num_classes=10).eval()
    nn.init.normal_(net.head.fc.weight)  # zeros without pretrained weights
    x = torch.randn(1, 3, 224, 224)
    graph = capture(net, x)
    assert count(graph, "aten.lstm") == 36
    start = time.perf_counter()
    graph = lower_recurrent(graph)
    assert time.perf_counter() - start < 60
    assert count(graph, "aten.lstm") == 0
    check(graph, net, x, tolerance=1e-4)
