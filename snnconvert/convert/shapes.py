"""Sizes of one sample: multiply-accumulates and elements, with the dynamic batch divided out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import fx

from snnconvert.convert.ops import CONVOLUTIONS, LINEAR, TRANSPOSED, OpKind, is_gate, kind_of

aten = torch.ops.aten
_RECURRENT = frozenset({aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input})

_UNKNOWN_TERMS = 1 << 20
_DEFORMABLE = "torchvision.deform_conv2d.default"


def hinted_shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor at the traced batch size.

    Raises:
        TypeError: if its value isn't one tensor.
    """
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{node.name} is not one tensor")
    return tuple(_hint(size) for size in value.shape)


def traced_batch(graph: fx.Graph) -> int:
    """The batch size the graph was traced at."""
    shapes = [node.meta["val"].shape for node in graph.nodes if node.op == "placeholder"]
    batches = [_hint(shape[0]) for shape in shapes if len(shape) > 0 and not isinstance(shape[0], int)]
    return batches[0] if batches else next(int(shape[0]) for shape in shapes if len(shape) > 0)


def is_fixed(node: fx.Node, dims: Iterable[int]) -> bool:
    """Whether these dimensions of a node's tensor have the traced size at every input size."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and all(isinstance(value.shape[dim], int) for dim in dims)


def macs_per_sample(node: fx.Node) -> int:
    """Multiply-accumulates of one sample: synapses, products, deformable convolutions; 0 for anything else."""
    kind = kind_of(node)
    if kind is OpKind.SYNAPSE:
        total = _synapse_macs(node)
    elif kind is OpKind.PRODUCT:
        total = _product_macs(node)
    elif node.target in _RECURRENT:
        total = _recurrent_macs(node)
    elif str(node.target) == _DEFORMABLE:
        total = math.prod(hinted_shape(node)) * math.prod(hinted_shape(_node(node.args[1]))[1:])
    else:
        return 0
    return total // traced_batch(node.graph)


def _synapse_macs(node: fx.Node) -> int:
    """Every output element meets weight[1:]; of a transposed convolution, every input element does."""
    weight = hinted_shape(_node(node.args[1]))
    if node.target in CONVOLUTIONS or node.target is LINEAR:
        return math.prod(hinted_shape(node)) * math.prod(weight[1:])
    if node.target in TRANSPOSED:
        return math.prod(hinted_shape(_node(node.args[0]))) * math.prod(weight[1:])
    raise TypeError(f"{node.target} is no synapse")


def _recurrent_macs(node: fx.Node) -> int:
    """Every step of every sequence meets every weight matrix once."""
    sequences, weights = hinted_shape(_node(node.args[0])), node.args[2]
    assert isinstance(weights, (list, tuple))
    matrices = [hinted_shape(_node(weight)) for weight in weights]
    return math.prod(sequences[:-1]) * sum(math.prod(shape) for shape in matrices if len(shape) == 2)


def product_terms(node: fx.Node) -> int:
    """How many products one output element of a product of two activations adds up."""
    if is_gate(node):
        return 1
    if node.target in CONVOLUTIONS:
        return math.prod(hinted_shape(_node(node.args[1]))[1:])
    return hinted_shape(_node(node.args[0]))[-1]


def most_terms(node: fx.Node) -> int:
    """:func:`product_terms` at any input size: those traced if they are fixed, else more than images have pixels."""
    if is_gate(node):
        return 1
    factor, dims = (node.args[1], slice(1, None)) if node.target in CONVOLUTIONS else (node.args[0], slice(-1, None))
    known = is_fixed(_node(factor), range(len(hinted_shape(_node(factor))))[dims])
    return product_terms(node) if known else _UNKNOWN_TERMS


def _product_macs(node: fx.Node) -> int:
    if node.target is aten.scaled_dot_product_attention.default:
        query, key, value = (hinted_shape(_node(arg)) for arg in node.args[:3])
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    if node.target in (aten.addmm.default, aten.baddbmm.default):
        return math.prod(hinted_shape(node)) * hinted_shape(_node(node.args[1]))[-1]
    if node.target is aten.einsum.default:
        return _einsum_macs(node)
    if node.target in TRANSPOSED:
        return _synapse_macs(node)
    return math.prod(hinted_shape(node)) * product_terms(node)


def _einsum_macs(node: fx.Node) -> int:
    """The product of all index sizes; a sequence of more than two operands counts as if done at once."""
    equation, operands = node.args[0], node.args[1]
    assert isinstance(operands, (list, tuple))
    terms = str(equation).replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        shape = hinted_shape(_node(operand))
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after)
        letters = [*before, *([f"...{index}" for index in range(hidden)] if dots else []), *after]
        sizes.update(zip(letters, shape, strict=True))
    return math.prod(sizes.values())


def _node(argument: object) -> fx.Node:
    if not isinstance(argument, fx.Node):
        raise TypeError(f"{argument!r} is not a node")
    return argument


def _hint(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else int(str(size.node.hint))
