"""The ANN beside the spiking network: it advances node by node to where the other is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx


class Reference(fx.Interpreter):
    """Runs a graph up to the nodes that are asked for, in their order, and forgets values once they are used."""

    def __init__(self, graph_module: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
        super().__init__(graph_module)
        self.args_iter = iter(inputs)
        self._rest: Iterator[fx.Node] = iter(graph_module.graph.nodes)
        self._output: Any = None

    def value_of(self, name: str) -> Tensor:
        """The tensor of a node that comes after all that were asked for before.

        Raises:
            ValueError: if it doesn't.
        """
        for node in self._rest:
            value = self._advance(node)
            if node.name == name:
                assert isinstance(value, Tensor)
                return value
        raise ValueError(f"{name} is no node behind the ones asked for before")

    def result(self) -> Any:
        """Runs the rest of the graph and gives its output."""
        for node in self._rest:
            self._advance(node)
        return self._output

    def _advance(self, node: fx.Node) -> Any:
        value = self.run_node(node)
        self.env[node] = value
        for used in self.user_to_last_uses.get(node, ()):
            del self.env[used]
        if node.op == "output":
            self._output = value
        return value
