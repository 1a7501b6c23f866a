"""Why a node stays analog, in words for plan and report."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx

from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.ops import (
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    NORMALIZATION,
    ROLE,
    OpKind,
    is_gate,
    kind_of,
    op_name,
    spike_operands,
)
from snnconvert.convert.shapes import macs_per_sample

aten = torch.ops.aten
_ARITHMETIC = frozenset(
    {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default, aten.rsub.Scalar}
)
_OPERATOR_REASONS = {
    "softmax": "normalizes over its inputs: acts on membrane potentials",
    "layer_norm": "normalizes with statistics of its inputs: acts on membrane potentials",
    "group_norm": "normalizes with statistics of its inputs: acts on membrane potentials",
    "rms_norm": "normalizes with statistics of its inputs: acts on membrane potentials",
    "upsample": "interpolates membrane potentials",
    "avg_pool1d": "only two-dimensional average pools carry current",
    "avg_pool3d": "only two-dimensional average pools carry current",
    "lstm": "recurrent layers are no synapses yet",
    "gru": "recurrent layers are no synapses yet",
    "scatter": "writes some membrane potentials over others",
    "masked_fill": "replaces some membrane potentials by a constant",
    "index": "picks membrane potentials by computed positions",
    "gather": "picks membrane potentials by computed positions",
    "topk": "picks membrane potentials by their order",
    "type_as": "changes the number format of membrane potentials",
    "to_copy": "changes the number format of membrane potentials",
}
_REASONS = {
    OpKind.SCALING: "scales or shifts membrane potentials for other analog nodes",
    OpKind.RECTIFIER: "no synapse reads it",
    OpKind.FUNCTION: "no synapse reads it: acts on membrane potentials",
    OpKind.ADD: "adds real-valued currents",
    OpKind.CONCAT: "joins real-valued currents",
    OpKind.AFFINE: "normalization that is read by more than rectifying neurons",
    OpKind.MAX_POOL: "pools real-valued currents",
    OpKind.AVERAGE_POOL: "averages real-valued currents, or windows of unequal size",
}


def synapse_refusal(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    """Why a convolution or linear layer can't be a synapse; None if it can."""
    if any(_is_complex(operand) for operand in node.all_input_nodes):
        return "multiplies complex numbers"
    parameters = [node.args[1], *(bias for bias in node.args[2:3] if bias is not None)]
    if any(constant_of(graph_module, parameter) is None for parameter in parameters):
        return "its weight or bias is computed at run time, not a parameter"
    return None


def product_refusal(node: fx.Node) -> str | None:
    """Why a product of two activations can't be a synapse; None if it can."""
    if not is_gate(node) and node.target not in MATRIX_PRODUCTS and node.target not in CONVOLUTIONS:
        return "this form of product of two activations is no synapse yet"
    if any(_is_complex(operand) for operand in spike_operands(node)):
        return "multiplies complex numbers"
    if any(kind_of(operand) is OpKind.CONSTANT for operand in spike_operands(node)):
        return "multiplies by a table of constants that no convolution or linear layer can hold"
    if node.target in CONVOLUTIONS and len(node.args) > 6 and isinstance(node.args[6], fx.Node):
        return "convolution whose groups depend on the batch"
    if node.target in CONVOLUTIONS and len(node.args) > 2 and node.args[2] is not None:
        return "convolution with computed kernels and a bias"
    return None


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()


def reason_of(node: fx.Node, kind: OpKind, computed: Collection[str]) -> str:
    """Why a node behind a synapse stays analog.

    Args:
        node: a node of real numbers.
        kind: its kind.
        computed: names of the nodes that depend on a synapse.
    """
    for part, reason in _OPERATOR_REASONS.items():
        if part in op_name(node):
            return reason
    if node.meta.get(ROLE) == NORMALIZATION:
        return "normalizes: divides by statistics of the same values"
    if kind in _REASONS:
        return _REASONS[kind]
    if node.target in _ARITHMETIC:
        several = sum(source.name in computed for source in node.all_input_nodes) > 1
        return "combines membrane potentials" if several else "scales or shifts membrane potentials by constants"
    namespace = getattr(node.target, "namespace", "aten")
    if namespace != "aten":
        known = "" if macs_per_sample(node) else ", whose work is unknown and not counted"
        return f"an operator of {namespace}{known}: acts on membrane potentials"
    return "no neuron computes this function: acts on membrane potentials"
