"""h[t] = f(W·x[t] + b + U·h[t-1] + c): recurrent layers, unrolled over their steps. Holds up to float rounding.

With σ the sigmoid and ∘ the product by element, in PyTorch's order of gates:

- RNN: h' = tanh(a) or relu(a), a = W·x + b + U·h + c
- LSTM: i, f, g, o = a; c' = σ(f)∘c + σ(i)∘tanh(g); h' = σ(o)∘tanh(c'), or P·(σ(o)∘tanh(c'))
- GRU: r = σ(aᵣ), z = σ(a_z), n = tanh(W_n·x + b_n + r∘(U_n·h + c_n)); h' = n + z∘(h - n)

W meets the whole sequence in one linear layer, U every step in a linear layer of shared weights.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import replace_node, tidy
from snnconvert.convert.ops import LINEAR, TIE

aten = torch.ops.aten
MOST_STEPS = 512
_LSTM = aten.lstm.input
_GATES: dict[object, int] = {_LSTM: 4, aten.gru.input: 3, aten.rnn_tanh.input: 1, aten.rnn_relu.input: 1}
_RECURRENT = frozenset(_GATES)


@dataclass(frozen=True)
class _Weights:
    """One layer in one direction."""

    input: fx.Node
    hidden: fx.Node
    input_bias: fx.Node | None = None
    hidden_bias: fx.Node | None = None
    projection: fx.Node | None = None


def lower_recurrent(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Unrolls LSTM, GRU and RNN layers; sequences of unknown or great length stay."""
    found = [node for node in graph_module.graph.nodes if node.op == "call_function" and node.target in _RECURRENT]
    for node in found:
        _lower(Builder(graph_module, node), node)
    return tidy(graph_module) if found else graph_module


def _lower(builder: Builder, node: fx.Node) -> None:
    source, states, parameters, biases, layers, dropout, training, bidirectional, batch_first = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(parameters, (list, tuple))
    time, directions = 1 if batch_first else 0, 2 if bidirectional else 1
    steps, size = builder.shape(source)[time], 4 if biases else 2
    if not isinstance(steps, int) or not 0 < steps <= MOST_STEPS or (training and dropout):
        return
    count = int(layers) * directions  # type: ignore[arg-type]
    weights = [_weights(parameters[at : at + len(parameters) // count], size) for at in _starts(parameters, count)]
    starts = [
        state for state in (states if isinstance(states, (list, tuple)) else [states]) if isinstance(state, fx.Node)
    ]
    finals: list[list[fx.Node]] = []
    for first in range(0, len(weights), directions):
        outputs = []
        for index in range(first, first + directions):
            start = [builder.call(aten.select.int, state, 0, index) for state in starts]
            layer = _Layer(builder, node.target, weights[index], time)
            output, final = layer.run(source, start, range(steps) if index == first else range(steps)[::-1])
            outputs.append(output)
            finals.append(final)
        source = outputs[0] if directions == 1 else builder.call(aten.cat.default, outputs, 2)
    _replace_outputs(builder, node, source, finals)


def _starts(parameters: Sequence[Any], count: int) -> range:
    return range(0, len(parameters), len(parameters) // count)


def _weights(parameters: Sequence[Any], size: int) -> _Weights:
    """The weights of one layer in one direction; a projection of the hidden state is one more at the end."""
    named = _Weights(*parameters[:size])
    return named if len(parameters) == size else dataclasses.replace(named, projection=parameters[size])


def _replace_outputs(builder: Builder, node: fx.Node, sequence: fx.Node, finals: list[list[fx.Node]]) -> None:
    """The layer's results are (sequence, h_n) or (sequence, h_n, c_n), with layers and directions in front."""
    for user in list(node.users):
        assert user.target is operator.getitem
        index = int(user.args[1])  # type: ignore[arg-type]
        result = sequence
        if index > 0:
            rows = [builder.call(aten.unsqueeze.default, final[index - 1], 0) for final in finals]
            result = rows[0] if len(rows) == 1 else builder.call(aten.cat.default, rows, 0)
        replace_node(user, result)
    builder.graph_module.graph.erase_node(node)


class _Layer:
    """One layer in one direction, unrolled: the first step is traced, the others have its shapes."""

    def __init__(self, builder: Builder, kind: object, weights: _Weights, time: int) -> None:
        self.builder, self.kind, self.weights, self.time = builder, kind, weights, time
        self.width = int(builder.shape(weights.hidden)[0]) // _GATES[kind]
        self.shown = int(builder.shape(weights.hidden)[1])
        self._traced: list[fx.Node] = []
        self._position = 0

    def run(self, source: fx.Node, state: list[fx.Node], order: range) -> tuple[fx.Node, list[fx.Node]]:
        """The sequence of outputs, laid out as the source, and the final state."""
        builder, weights = self.builder, self.weights
        projected = builder.call(LINEAR, source, weights.input, weights.input_bias)
        outputs: dict[int, fx.Node] = {}
        for step in order:
            self._position = 0
            current = self._call(aten.select.int, projected, self.time, step)
            recurrent = self._call(LINEAR, state[0], weights.hidden, weights.hidden_bias)
            started, state = state, self._step(current, recurrent, state)
            for before, after in zip(started, state, strict=True):
                before.meta.setdefault(TIE, after.meta[TIE])
            outputs[step] = state[0]
        flat = builder.call(aten.cat.default, [outputs[step] for step in sorted(outputs)], 1)
        sequence = builder.reshape(flat, [builder.size(flat, 0), len(order), self.shown])
        return (sequence if self.time == 1 else builder.permute(sequence, [1, 0, 2])), state

    def _step(self, current: fx.Node, recurrent: fx.Node, state: list[fx.Node]) -> list[fx.Node]:
        if self.kind is aten.gru.input:
            return [self._gru(current, recurrent, state[0])]
        total = self._call(aten.add.Tensor, current, recurrent)
        if self.kind is _LSTM:
            return self._lstm(total, state[1])
        activation = aten.tanh.default if self.kind is aten.rnn_tanh.input else aten.relu.default
        return [self._call(activation, total)]

    def _lstm(self, total: fx.Node, cell: fx.Node) -> list[fx.Node]:
        keep_new, keep_old, show = (self._call(aten.sigmoid.default, self._gate(total, gate)) for gate in (0, 1, 3))
        new = self._call(aten.tanh.default, self._gate(total, 2))
        old = self._call(aten.mul.Tensor, keep_old, cell)
        cell = self._call(aten.add.Tensor, old, self._call(aten.mul.Tensor, keep_new, new))
        hidden = self._call(aten.mul.Tensor, show, self._call(aten.tanh.default, cell))
        if self.weights.projection is not None:
            hidden = self._call(LINEAR, hidden, self.weights.projection, None)
        return [hidden, cell]

    def _gru(self, current: fx.Node, recurrent: fx.Node, hidden: fx.Node) -> fx.Node:
        reset, keep_old = (
            self._call(
                aten.sigmoid.default,
                self._call(aten.add.Tensor, self._gate(current, gate), self._gate(recurrent, gate)),
            )
            for gate in (0, 1)
        )
        remembered = self._call(aten.mul.Tensor, reset, self._gate(recurrent, 2))
        new = self._call(aten.tanh.default, self._call(aten.add.Tensor, self._gate(current, 2), remembered))
        difference = self._call(aten.sub.Tensor, hidden, new)
        return self._call(aten.add.Tensor, new, self._call(aten.mul.Tensor, keep_old, difference))

    def _gate(self, gates: fx.Node, index: int) -> fx.Node:
        return self._call(aten.slice.Tensor, gates, 1, index * self.width, (index + 1) * self.width)

    def _call(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        if self._position == len(self._traced):
            self._traced.append(self.builder.call(target, *args))
            node = self._traced[-1]
        else:
            node = self.builder.call_like(self._traced[self._position], target, *args)
        node.meta[TIE] = self._traced[self._position].name
        self._position += 1
        return node
