"""C·x = (linear(xᵀ, C))ᵀ: a product of activations and constants is a synapse. Holds up to float rounding.

- matmul(C [M, K], x [..., K, N]) = linear(xᵀ, C)ᵀ, and matmul(x, C [K, N]) = linear(x, Cᵀ)
- with a matrix for each head, C [H, K, N] and x [..., H, L, K]: one convolution over H·K channels in H groups
- addmm and baddbmm: the product, then the addition
- sum(x∘c) over the dimensions in which c varies: a linear layer
- bilinear: y[o] = Σᵢⱼ a[i]·W[o, i, j]·b[j] = Σⱼ linear(a, W)[o, j]·b[j]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from snnconvert.convert.arguments import with_defaults
from snnconvert.convert.graph_builder import Builder, same_sizes
from snnconvert.convert.graph_tools import tidy
from snnconvert.convert.ops import LINEAR

aten = torch.ops.aten


def lower_constant_products(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Rewrites products with one constant operand to linear layers and grouped convolutions.

    Run it after ``fold_constants``, so that computed constants are constants.
    """
    for node in list(graph_module.graph.nodes):
        rule = _RULES.get(node.target) if node.op == "call_function" else None
        if rule is None:
            continue
        builder = Builder(graph_module, node)
        if (result := rule(builder, node)) is not None:
            builder.replace(result)
    return tidy(graph_module)


@dataclass(frozen=True)
class _Matrices:
    """Constant matrices [..., N, K], in the order a linear layer has them."""

    value: Tensor
    source: fx.Node

    def weight(self, builder: Builder, value: Tensor) -> fx.Node:
        """A constant computed from them."""
        parameter = str(self.source.meta.get("parameter", self.source.target))
        return builder.constant(f"{parameter}_matrix", value.contiguous(), self.source)


def _plain_product(builder: Builder, node: fx.Node) -> fx.Node | None:
    return _product(builder, node.args[0], node.args[1])


def _product_and_addition(builder: Builder, node: fx.Node) -> fx.Node | None:
    """beta·added + alpha·(left @ right)."""
    added, (left, right, *rest) = node.args[0], with_defaults(node)
    beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
    result = None if rest else _product(builder, left, right)
    if result is None or not isinstance(added, fx.Node):
        return None
    shift = builder.constant_of(added)
    if result.target is LINEAR and (beta, alpha) == (1, 1) and shift is not None:
        outputs = builder.shape(result)[-1]
        if tuple(shift.shape) == (outputs,):
            result.args = (*result.args[:2], added)
            return result
    if alpha != 1:
        result = builder.call(aten.mul.Tensor, result, alpha)
    if beta == 0:
        return result
    return builder.call(aten.add.Tensor, result, added if beta == 1 else builder.call(aten.mul.Tensor, added, beta))


def _product(builder: Builder, left: object, right: object) -> fx.Node | None:
    """The matrix product if exactly one side is constant; None if it isn't, or is no synapse."""
    before, after = _matrices(builder, left), _matrices(builder, right)
    if (before is None) == (after is None):
        return None
    constant, other = (before, right) if before is not None else (after, left)
    assert constant is not None
    if not isinstance(other, fx.Node) or not constant.value.is_floating_point():
        return None
    if constant.value.dim() == 1:
        source = _turned(builder, other) if constant is before else other
        weight = constant.weight(builder, constant.value[None])
        return builder.call(aten.squeeze.dim, builder.call(LINEAR, source, weight, None), -1)
    if len(builder.shape(other)) == 1:
        if constant.value.dim() != 2:
            return None
        matrix = constant.value if constant is before else constant.value.mT
        return builder.call(LINEAR, other, constant.weight(builder, matrix), None)
    if constant is before:
        return _times(builder, other, constant, columns=True)
    return _times(builder, other, _Matrices(constant.value.mT, constant.source), columns=False)


def _times(builder: Builder, x: fx.Node, matrices: _Matrices, *, columns: bool) -> fx.Node | None:
    """x·Wᵀ of rows x [..., L, K] and W [..., N, K], or W·x of columns x [..., K, L]."""
    value, rank = matrices.value, len(builder.shape(x))
    if value.dim() > rank:
        return None
    while value.dim() > 2 and value.shape[0] == 1:
        value = value[0]
    if value.dim() == 2:
        rows = _turned(builder, x) if columns else x
        result = builder.call(LINEAR, rows, matrices.weight(builder, value), None)
        return _turned(builder, result) if columns else result
    heads = builder.shape(x)[rank - value.dim() : -2]
    if all(head == 1 for head in heads if isinstance(head, int)) and all(isinstance(head, int) for head in heads):
        rows = _turned(builder, x) if columns else x
        result = _all_heads(builder, rows, matrices, value)
        return _turned(builder, result) if columns else result
    if any(
        not isinstance(head, int) or size not in (1, head) for head, size in zip(heads, value.shape[:-2], strict=True)
    ):
        return None
    value = value.expand(*heads, *value.shape[-2:])
    if rank == value.dim():
        rows = _turned(builder, x) if columns else x
        result = _heads_of_samples(builder, rows, matrices, value)
        return _turned(builder, result) if columns else result
    turned = _heads(builder, x if columns else _turned(builder, x), matrices, value)
    return turned if columns else _turned(builder, turned)


def _heads(builder: Builder, x: fx.Node, matrices: _Matrices, value: Tensor) -> fx.Node:
    """W·x with a matrix for each head: x [..., *heads, K, L], W [*heads, N, K]."""
    heads, sizes = list(value.shape[:-2]), builder.sizes(x)
    lead, length = sizes[: len(sizes) - value.dim()], sizes[-1]
    number, outputs = math.prod(heads), value.shape[-2]
    flat = builder.reshape(x, [builder.product(lead), number * value.shape[-1], length])
    weight = matrices.weight(builder, value.reshape(number * outputs, value.shape[-1], 1))
    result = builder.call(aten.conv1d.default, flat, weight, None, [1], [0], [1], number)
    return builder.reshape(result, [*lead, *heads, outputs, length])


def _heads_of_samples(builder: Builder, x: fx.Node, matrices: _Matrices, value: Tensor) -> fx.Node:
    """x·Wᵀ where heads stand in front of samples: x [*heads, L, K] with the batch in L."""
    rank = value.dim()
    samples = builder.permute(x, [rank - 2, *range(rank - 2), rank - 1])
    columns = builder.call(aten.unsqueeze.default, samples, -1)
    result = builder.call(aten.squeeze.dim, _heads(builder, columns, matrices, value), -1)
    return builder.permute(result, [*range(1, rank - 1), 0, rank - 1])


def _all_heads(builder: Builder, x: fx.Node, matrices: _Matrices, value: Tensor) -> fx.Node:
    """x·Wᵀ where every head reads the same x [..., 1, L, K]: one linear layer of all outputs."""
    heads, outputs, sizes = list(value.shape[:-2]), value.shape[-2], builder.sizes(x)
    weight = matrices.weight(builder, value.reshape(-1, value.shape[-1]))
    lead, length = sizes[: len(sizes) - value.dim()], sizes[-2]
    flat = builder.reshape(builder.call(LINEAR, x, weight, None), [*lead, length, *heads, outputs])
    front, dims = len(lead), len(heads)
    return builder.permute(flat, [*range(front), *range(front + 1, front + 1 + dims), front, front + 1 + dims])


def _bilinear(builder: Builder, node: fx.Node) -> fx.Node | None:
    first, second, weight, *bias = node.args
    constant = builder.constant_of(weight)
    if constant is None or not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return None
    assert isinstance(weight, fx.Node)
    outputs, inputs, others = constant.shape
    matrix = _Matrices(constant, weight).weight(builder, constant.mT.reshape(outputs * others, inputs))
    projected = builder.call(LINEAR, first, matrix, None)
    apart = builder.reshape(projected, [*builder.sizes(projected)[:-1], outputs, others])
    column = builder.call(aten.unsqueeze.default, second, -1)
    result = builder.call(aten.squeeze.dim, builder.call(aten.matmul.default, apart, column), -1)
    return result if not bias or bias[0] is None else builder.call(aten.add.Tensor, result, bias[0])


def _weighted_sum(builder: Builder, node: fx.Node) -> fx.Node | None:
    """sum(x∘c): every dimension is summed, kept from x, or new from c where x has size one."""
    product, (dims, keep) = node.args[0], with_defaults(node, None, False)[:2]
    if (
        not isinstance(product, fx.Node)
        or product.target is not aten.mul.Tensor
        or len(product.users) != 1
        or node.kwargs
    ):
        return None
    left, right = product.args
    before, after = builder.constant_of(left), builder.constant_of(right)
    if (before is None) == (after is None):
        return None
    x, source, value = (left, right, after) if after is not None else (right, left, before)
    if not isinstance(x, fx.Node) or not isinstance(source, fx.Node) or value is None:
        return None
    shape = builder.shape(x)
    rank = len(shape)
    if value.dim() > rank or not value.is_floating_point() or not isinstance(dims, (list, tuple)) or not dims:
        return None
    value = value.reshape((1,) * (rank - value.dim()) + tuple(value.shape))
    summed = sorted(int(dim) % rank for dim in dims)
    kept = [dim for dim in range(rank) if dim not in summed]
    new = [dim for dim in kept if value.shape[dim] != 1]
    lengths = [shape[dim] for dim in summed]
    if all(value.shape[dim] == 1 for dim in summed) or any(not same_sizes([shape[dim]], [1]) for dim in new):
        return None
    if not all(
        isinstance(size, int) and value.shape[dim] in (1, size) for dim, size in zip(summed, lengths, strict=True)
    ):
        return None
    free, sizes = [dim for dim in kept if dim not in new], builder.sizes(x)
    rows = builder.reshape(
        builder.permute(x, [*free, *new, *summed]),
        [*(sizes[dim] for dim in free), builder.product([sizes[dim] for dim in summed])],
    )
    full = value.expand([shape[dim] if dim in summed else value.shape[dim] for dim in range(rank)])
    matrix = full.permute(*free, *new, *summed).reshape(math.prod(value.shape[dim] for dim in new), -1)
    result = builder.call(LINEAR, rows, _Matrices(value, source).weight(builder, matrix), None)
    result = builder.reshape(result, [*(sizes[dim] for dim in free), *(value.shape[dim] for dim in new)])
    order = [*free, *new]
    result = builder.permute(result, [order.index(dim) for dim in kept])
    for dim in summed if keep else []:
        result = builder.call(aten.unsqueeze.default, result, dim)
    return result


def _matrices(builder: Builder, value: object) -> _Matrices | None:
    """A constant, also where it is only expanded over the dimensions in front of its matrices."""
    node = value
    if isinstance(node, fx.Node) and node.target is aten.expand.default and len(builder.shape(node)) > 2:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if same_sizes(builder.shape(source)[-2:], builder.shape(node)[-2:]):
            constant = builder.constant_of(source)
            if constant is not None and all(size == 1 for size in constant.shape[:-2]):
                return _Matrices(constant, source)
        return None
    constant = builder.constant_of(node)
    return None if constant is None or not isinstance(node, fx.Node) else _Matrices(constant, node)


def _turned(builder: Builder, x: fx.Node) -> fx.Node:
    return builder.call(aten.transpose.int, x, -2, -1)


_RULES: dict[object, Callable[[Builder, fx.Node], fx.Node | None]] = {
    aten.matmul.default: _plain_product,
    aten.mm.default: _plain_product,
    aten.bmm.default: _plain_product,
    aten.mv.default: _plain_product,
    aten.addmm.default: _product_and_addition,
    aten.baddbmm.default: _product_and_addition,
    aten.bilinear.default: _bilinear,
    aten.sum.dim_IntList: _weighted_sum,
}
