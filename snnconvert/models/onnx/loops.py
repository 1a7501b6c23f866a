"""Loops whose number of rounds is known: what goes round, and what each round leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from onnx import GraphProto
from torch import Tensor

from snnconvert.models.onnx.limits import MOST_ITERATIONS
from snnconvert.models.onnx.node import OnnxNode

_OPSET = 13


@dataclass
class Rounds:
    """The rounds of one loop.

    Attributes:
        node: The loop.
        body: What runs in each round.
        most: How often it runs at most, if that is given.
        goes_on: Whether there is another round.
        state: Names of the values that go from round to round.
        rows: Names of what the rounds so far have left, for each stacked output.
        done: Rounds so far.
    """

    node: OnnxNode
    body: GraphProto
    most: int | None
    goes_on: bool
    state: list[str | None]
    rows: list[list[str | None]] = field(default_factory=list)
    done: int = 0

    @classmethod
    def of(cls, node: OnnxNode, body: GraphProto, most: Any, condition: Any) -> Rounds:
        """The rounds before the first.

        Raises:
            InputError: if the body doesn't take and give what the loop does.
        """
        state = list(node.inputs[2:])
        stacks = len(body.output) - 1 - len(state)
        if len(body.input) != 2 + len(state) or stacks < 0:
            raise node.malformed("its body takes or gives another number of values")
        goes_on = (most is None or most > 0) and condition in (None, True)
        return cls(node, body, most, goes_on, state, [[] for _ in range(stacks)])

    def end(self, results: list[str | None], condition: Tensor | None) -> None:
        """Takes what a round gives: whether to go on, the state, and the rows of stacked outputs.

        Raises:
            ConversionError: if it depends on data whether there is another round, or there are too many.
        """
        self.done += 1
        if condition is None or condition.numel() != 1:
            raise self.node.unsupported("how often it runs is computed from data: export without control flow")
        if self.done >= MOST_ITERATIONS:
            raise self.node.unsupported(f"it runs more than {MOST_ITERATIONS} times")
        count = len(self.state)
        self.state = results[1 : 1 + count]
        for rows, row in zip(self.rows, results[1 + count :], strict=True):
            rows.append(row)
        self.goes_on = bool(condition.item()) and (self.most is None or self.done < self.most)

    def results(self) -> list[str | None]:
        """Names of the loop's outputs: the last state, then the stacks."""
        return [*self.state, *(f"{self.node.name}/stack_{index}" for index in range(len(self.rows)))]


def stacked(rounds: Rounds, constants: dict[str, Tensor]) -> list[OnnxNode]:
    """Nodes that put the rows of each stacked output on top of each other.

    Raises:
        ConversionError: if there are none, so that their shape isn't known.
    """
    if rounds.rows and not rounds.done:
        raise rounds.node.unsupported("it never runs, so the shape of what it collects isn't known")
    axes = f"{rounds.node.name}/axes/"
    constants[axes] = torch.tensor([0])
    nodes, results = [], rounds.results()[len(rounds.state) :]
    for rows, result in zip(rounds.rows, results, strict=True):
        raised = [f"{result}/{index}" for index in range(len(rows))]
        nodes += [_node(rounds.node, "Unsqueeze", (row, axes), name) for row, name in zip(rows, raised, strict=True)]
        nodes.append(_node(rounds.node, "Concat", tuple(raised), str(result), axis=0))
    return nodes


def _node(loop: OnnxNode, op_type: str, inputs: tuple[str | None, ...], output: str, **attributes: Any) -> OnnxNode:
    return OnnxNode(loop.file, output, op_type, "", _OPSET, inputs, (output,), attributes)
