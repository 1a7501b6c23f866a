"""einsum = permute, matmul, permute: each pair of operands meets in at most one product. Holds up to float rounding.

With batch indices b (in both operands and the result), contracted k (in both only) and free i, j:
out[b, i, j] = Σₖ left[b, i, k]·right[b, k, j] is one ``matmul``; without k it is one broadcast ``mul``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from snnconvert.convert.arguments import as_node
from snnconvert.convert.graph_builder import Builder, Size
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten


@dataclass(frozen=True)
class _Term:
    """A tensor with an index for each of its dimensions."""

    node: fx.Node
    indices: tuple[str, ...]


def lower_einsum(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Writes out every einsum; more than two operands meet from left to right."""
    found = graph_module.graph.find_nodes(op="call_function", target=aten.einsum.default)
    for node in found:
        equation, operands = node.args[:2]
        assert isinstance(operands, (list, tuple))
        _lower(Builder(graph_module, node), str(equation), [as_node(operand) for operand in operands])
    return tidy(graph_module) if found else graph_module


def _lower(builder: Builder, equation: str, operands: list[fx.Node]) -> None:
    ranks = [len(builder.shape(operand)) for operand in operands]
    inputs, output = _parse(equation, ranks)
    terms = [_diagonal(builder, _Term(node, indices)) for node, indices in zip(operands, inputs, strict=True)]
    total = terms[0]
    for position, term in enumerate(terms[1:], 2):
        wanted = {*output, *(index for later in terms[position:] for index in later.indices)}
        total = _product(builder, total, term, wanted)
    total = _sum_out(builder, total, set(output))
    builder.replace(_arranged(builder, total, list(output)))


def _parse(equation: str, ranks: list[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Indices of every operand and of the output; dimensions behind an ellipsis are "...0" (the last), "...1", …."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = [
        rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in zip(terms, ranks, strict=True)
    ]
    inputs = [_indices(term, count) for term, count in zip(terms, hidden, strict=True)]
    if arrow:
        return inputs, _indices(right, max(hidden))
    letters = [letter for letter in left if letter.isalpha()]
    once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    return inputs, (*_indices("...", max(hidden)), *once)


def _indices(term: str, hidden: int) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    behind = [f"...{index}" for index in reversed(range(hidden))] if dots else []
    return (*before, *behind, *after)


def _diagonal(builder: Builder, term: _Term) -> _Term:
    """Takes the diagonal of every index that stands twice."""
    node, indices = term.node, list(term.indices)
    while (repeated := next((index for index in indices if indices.count(index) > 1), None)) is not None:
        first = indices.index(repeated)
        second = indices.index(repeated, first + 1)
        node = builder.call(aten.diagonal.default, node, 0, first, second)
        indices = [index for dim, index in enumerate(indices) if dim not in (first, second)] + [repeated]
    return _Term(node, tuple(indices))


def _sum_out(builder: Builder, term: _Term, wanted: set[str]) -> _Term:
    dims = [dim for dim, index in enumerate(term.indices) if index not in wanted]
    if not dims:
        return term
    summed = builder.call(aten.sum.dim_IntList, term.node, dims)
    return _Term(summed, tuple(index for index in term.indices if index in wanted))


def _product(builder: Builder, left: _Term, right: _Term, wanted: set[str]) -> _Term:
    left, right = _drop_ones(builder, left, right), _drop_ones(builder, right, left)
    left = _sum_out(builder, left, wanted | set(right.indices))
    right = _sum_out(builder, right, wanted | set(left.indices))
    if builder.constant_of(left.node) is not None and builder.constant_of(right.node) is None:
        left, right = right, left
    both = [index for index in left.indices if index in right.indices]
    contracted = [index for index in both if index not in wanted]
    batch = [index for index in both if index in wanted]
    rows = [index for index in left.indices if index not in both]
    columns = [index for index in right.indices if index not in both]
    if not contracted:
        return _outer_product(builder, left, right, rows, batch, columns)
    return _contraction(builder, left, right, (batch, rows, contracted, columns))


def _drop_ones(builder: Builder, term: _Term, other: _Term) -> _Term:
    """Drops dimensions of size one that meet more in the other operand: one value for all."""
    dropped = [
        dim
        for dim, index in enumerate(term.indices)
        if index in other.indices
        and _is_one(builder.shape(term.node)[dim])
        and not _is_one(builder.shape(other.node)[other.indices.index(index)])
    ]
    if not dropped:
        return term
    squeezed = builder.call(aten.squeeze.dims, term.node, dropped)
    return _Term(squeezed, tuple(index for dim, index in enumerate(term.indices) if dim not in dropped))


def _outer_product(
    builder: Builder, left: _Term, right: _Term, rows: list[str], batch: list[str], columns: list[str]
) -> _Term:
    order = [*(index for index in left.indices if index in rows or index in batch), *columns]
    sides = [_broadcast(builder, term, order) for term in (left, right)]
    return _Term(builder.call(aten.mul.Tensor, *sides), tuple(order))


def _broadcast(builder: Builder, term: _Term, order: list[str]) -> fx.Node:
    """The tensor with its dimensions where the order has their indices, and ones elsewhere."""
    node = _arranged(builder, term, [index for index in order if index in term.indices])
    for dim, index in enumerate(order):
        if index not in term.indices and any(earlier in term.indices for earlier in order[:dim]):
            node = builder.call(aten.unsqueeze.default, node, dim - _leading(order, term))
    return node


def _leading(order: list[str], term: _Term) -> int:
    """How many indices the order has in front of the tensor's first: broadcasting adds them by itself."""
    return next((dim for dim, index in enumerate(order) if index in term.indices), 0)


def _contraction(
    builder: Builder, left: _Term, right: _Term, groups: tuple[list[str], list[str], list[str], list[str]]
) -> _Term:
    batch, rows, contracted, columns = groups
    sizes = {index: builder.size(term.node, dim) for term in (left, right) for dim, index in enumerate(term.indices)}
    matrices = builder.constant_of(right.node) is not None
    outer = rows[:1] if batch and matrices else []  # samples first: x[n, b, i, k] meets matrices [b, k, j]
    inner = rows if not batch else rows[len(outer) :]
    flat_rows = inner if not batch else [inner]
    first = _grouped(builder, left, [*outer, *batch, *flat_rows, contracted], sizes)
    second = _grouped(builder, right, [*batch, contracted, columns], sizes)
    product = builder.call(aten.matmul.default, first, second)
    order = [*outer, *batch, *inner, *columns]
    return _Term(builder.reshape(product, [sizes[index] for index in order]), tuple(order))


def _grouped(builder: Builder, term: _Term, groups: Sequence[str | list[str]], sizes: dict[str, Size]) -> fx.Node:
    """The tensor with one dimension for each group of indices."""
    apart = [[group] if isinstance(group, str) else group for group in groups]
    node = _arranged(builder, term, [index for group in apart for index in group])
    return builder.reshape(node, [builder.product([sizes[index] for index in group]) for group in apart])


def _arranged(builder: Builder, term: _Term, order: list[str]) -> fx.Node:
    return builder.permute(term.node, [term.indices.index(index) for index in order])


def _is_one(size: int | torch.SymInt) -> bool:
    return isinstance(size, int) and size == 1
