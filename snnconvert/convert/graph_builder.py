"""A builder of subgraphs: what a pass inserts carries its traced value and the module it replaces."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from snnconvert.convert.graph_tools import add_constant, constant_of, replace_node

aten = torch.ops.aten
Size = int | fx.Node
_MODULE_STACK = "nn_module_stack"


class Builder:
    """Inserts nodes in front of one node, in whose place they compute.

    Every inserted node has ``meta["val"]``, computed by running its operator on the fake tensors of its
    arguments (a symbolic batch stays symbolic), and the ``nn_module_stack`` of the replaced node.

    Args:
        graph_module: the module whose graph grows.
        before: the node to insert in front of, usually the one to replace.
    """

    def __init__(self, graph_module: fx.GraphModule, before: fx.Node) -> None:
        self.graph_module = graph_module
        self.before = before
        self._mode = _fake_mode(graph_module.graph)
        self._sizes: dict[object, fx.Node] | None = None

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Inserts target(*args, **kwargs) and traces its value.

        Args:
            target: an ATen overload or a Python function.
            *args: nodes, numbers and lists of them.
            **kwargs: likewise.
        """
        node = self._insert(target, args, kwargs)
        traced_args, traced_kwargs = fx.node.map_arg((args, kwargs), self._traced)
        with self._tracing():
            node.meta["val"] = target(*traced_args, **traced_kwargs)
        return node

    def call_like(self, other: fx.Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Inserts a node whose value has another's shape: nothing is traced, which is fast in long loops."""
        node = self._insert(target, args, kwargs)
        node.meta["val"] = other.meta["val"]
        return node

    def call_shaped(self, shape: Sequence[int | torch.SymInt], target: Callable[..., Any], *args: Any) -> fx.Node:
        """Inserts a node whose value has a shape known beforehand, where torch's own rule would fix the batch."""
        node = self._insert(target, args, {})
        with self._tracing():
            node.meta["val"] = _value(args[0]).new_empty(tuple(shape))
        return node

    def constant(self, name: str, value: Tensor, source: object = None) -> fx.Node:
        """Inserts a new constant.

        Args:
            name: its name, made unique.
            value: its tensor.
            source: the constant it was computed from; layers are named after that one's parameter.
        """
        node = add_constant(self.graph_module, self.before, name, value)
        if isinstance(source, fx.Node) and source.op == "get_attr":
            node.meta["parameter"] = source.meta.get("parameter", source.target)
        return node

    def constant_of(self, value: object) -> Tensor | None:
        """The tensor a constant node stands for, or None."""
        return constant_of(self.graph_module, value)

    def shape(self, node: fx.Node) -> tuple[int | torch.SymInt, ...]:
        """The traced shape of a node's tensor, symbolic where it depends on the batch."""
        return tuple(_value(node).shape)

    def size(self, node: fx.Node, dim: int) -> Size:
        """One size as an argument for other nodes: a number, or the node that computes it at runtime."""
        size = _value(node).shape[dim]
        if isinstance(size, int):
            return size
        known = self._known_sizes()
        if size.node.expr not in known:
            known[size.node.expr] = self.call(aten.sym_size.int, node, dim % _value(node).dim())
        return known[size.node.expr]

    def sizes(self, node: fx.Node) -> list[Size]:
        """All sizes of a node's tensor, as ``size`` gives them."""
        return [self.size(node, dim) for dim in range(_value(node).dim())]

    def product(self, sizes: list[Size]) -> Size:
        """The product of sizes: a number, or the node that computes it at runtime."""
        total: Size = 1
        for size in sorted(sizes, key=lambda size: isinstance(size, fx.Node)):
            if isinstance(total, int) and isinstance(size, int):
                total *= size
            else:
                total = size if total == 1 else self.call(operator.mul, size, total)
        return total

    def reshape(self, node: fx.Node, sizes: list[Size]) -> fx.Node:
        """The tensor in another shape; the node itself if it has that shape already."""
        numbers = [self._traced(size) if isinstance(size, fx.Node) else size for size in sizes]
        if same_sizes(self.shape(node), numbers):
            return node
        return self.call(aten.reshape.default, node, sizes)

    def permute(self, node: fx.Node, order: list[int]) -> fx.Node:
        """The tensor with its dimensions in another order; the node itself if they are in that order."""
        if order == list(range(len(order))):
            return node
        return self.call(aten.permute.default, node, order)

    def replace(self, new: fx.Node) -> None:
        """Lets every user of the node in front of which was built read the new one."""
        replace_node(self.before, new)

    def _insert(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        with self.graph_module.graph.inserting_before(self.before):
            node = self.graph_module.graph.call_function(target, args, kwargs)
        if _MODULE_STACK in self.before.meta:
            node.meta[_MODULE_STACK] = self.before.meta[_MODULE_STACK]
        return node

    @contextlib.contextmanager
    def _tracing(self) -> Iterator[None]:
        shapes = self._mode.shape_env
        with torch.no_grad(), self._mode, shapes.suppress_guards() if shapes else contextlib.nullcontext():
            yield

    def _traced(self, node: fx.Node) -> Any:
        value = node.meta["val"]
        if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
            return self._mode.from_tensor(value, static_shapes=True)
        return value

    def _known_sizes(self) -> dict[object, fx.Node]:
        """Symbolic sizes the graph computes already, in front of where this builder inserts."""
        if self._sizes is None:
            self._sizes = {}
            for node in self.graph_module.graph.nodes:
                if node is self.before:
                    break
                value = node.meta.get("val")
                if node.op == "call_function" and isinstance(value, torch.SymInt):
                    self._sizes.setdefault(value.node.expr, node)
        return self._sizes


def _fake_mode(graph: fx.Graph) -> FakeTensorMode:
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op != "get_attr" and isinstance(value, FakeTensor):
            return value.fake_mode
    raise ValueError("the graph has no traced values: it must come from a capture")


def _value(node: fx.Node) -> Tensor:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        raise TypeError(f"{node.name} is not one tensor")
    return value


def same_sizes(left: Sequence[int | torch.SymInt], right: Sequence[int | torch.SymInt]) -> bool:
    """Whether two shapes agree at every batch size; ``==`` would compare them at the traced one."""
    return [_size_key(size) for size in left] == [_size_key(size) for size in right]


def _size_key(size: int | torch.SymInt) -> object:
    return size if isinstance(size, int) else size.node.expr
