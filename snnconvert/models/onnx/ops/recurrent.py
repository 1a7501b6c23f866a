"""LSTM, GRU and RNN, on torch's own, with gates in torch's order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import onnx_op

_WEIGHTS = {1: "weight", 2: "recurrent_weight", 3: "bias"}
_ORDER: dict[str, list[int]] = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
_DEFAULTS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def _prepare(node: OnnxNode, position: int, tensor: Tensor) -> Tensor:
    return _reordered(node.op_type, tensor, 2 if position == 3 else 1) if position in _WEIGHTS else tensor


def _reordered(op_type: str, tensor: Tensor, groups: int) -> Tensor:
    """Gates along dimension 1 in torch's order; biases hold the input's gates, then the recurrent ones."""
    order = _ORDER[op_type]
    gates = list(tensor.chunk(len(order) * groups, dim=1))
    picked = [gates[group * len(order) + index] for group in range(groups) for index in order]
    return torch.cat(picked, dim=1)


def _register(name: str) -> None:
    @onnx_op(name, weights=_WEIGHTS, prepare=_prepare, numbers=(4,))
    def run(call: Call) -> list[Tensor]:
        return _run(call)


for _name in _ORDER:
    _register(_name)


def _run(call: Call) -> list[Tensor]:
    name = call.node.op_type
    x = call.tensor(0)
    x = x.transpose(0, 1) if call.flag("layout") else x
    directions = 2 if call.text("direction", "forward") == "bidirectional" else 1
    _check(call, x, directions)
    reverse = call.text("direction", "forward") == "reverse"
    weights = _weights(call, directions)
    hidden = weights[1].shape[1]
    state = _state(call, x, 5, directions, hidden)
    source = x.flip(0) if reverse else x
    options = (weights, True, 1, 0.0, False, directions == 2, False)
    if name == "LSTM":
        output, *states = torch.lstm(source, [state, _state(call, x, 6, directions, hidden)], *options)
    else:
        function: Any = {"GRU": torch.gru, "RNN": torch.rnn_relu if _uses_relu(call) else torch.rnn_tanh}[name]
        output, *states = function(source, state, *options)
    output = output.flip(0) if reverse else output
    sequence = output.reshape(output.shape[0], output.shape[1], directions, hidden).transpose(1, 2)
    if call.flag("layout"):
        return [sequence.permute(2, 0, 1, 3), *(item.transpose(0, 1) for item in states)]
    return [sequence, *states]


def _check(call: Call, x: Tensor, directions: int) -> None:
    name = call.node.op_type
    if call.has(7) or call.node.attributes.get("clip") is not None or call.flag("input_forget"):
        raise call.node.unsupported("peepholes, clips and coupled gates are not supported")
    if name == "GRU" and not call.flag("linear_before_reset"):
        raise call.node.unsupported("only linear_before_reset = 1, which PyTorch's GRU computes, is supported")
    functions = call.node.attributes.get("activations")
    plain = [str(item).lower() for item in functions] if isinstance(functions, list) else None
    if plain not in (None, _DEFAULTS[name] * directions) and not (name == "RNN" and set(plain or ()) == {"relu"}):
        raise call.node.unsupported(f"the activations {functions} are not those of PyTorch's {name}")
    if call.has(4) and any(length != x.shape[0] for length in call.host(4).items()):
        raise call.node.unsupported("sequences of different lengths are not supported")


def _uses_relu(call: Call) -> bool:
    functions = call.node.attributes.get("activations")
    return isinstance(functions, list) and {str(item).lower() for item in functions} == {"relu"}


def _weights(call: Call, directions: int) -> list[Tensor]:
    """Per direction: input weights, recurrent weights and both biases."""
    weight, recurrent = _in_order(call, 1), _in_order(call, 2)
    rows = weight.shape[1]
    bias = _in_order(call, 3) if call.has(3) else weight.new_zeros(directions, 2 * rows)
    return [item for d in range(directions) for item in (weight[d], recurrent[d], bias[d, :rows], bias[d, rows:])]


def _in_order(call: Call, position: int) -> Tensor:
    tensor = call.tensor(position)
    if position in call.prepared:
        return tensor
    return _reordered(call.node.op_type, tensor, 2 if position == 3 else 1)


def _state(call: Call, x: Tensor, position: int, directions: int, hidden: int) -> Tensor:
    """The initial state [directions, N, hidden]: zero by default; one for all samples follows the batch."""
    if not call.has(position):
        return x.new_zeros(directions, x.shape[1], hidden)
    state = call.tensor(position)
    state = state.transpose(0, 1) if call.flag("layout") else state
    return state.expand(directions, x.shape[1], hidden).contiguous()
