"""What an operator's function sees of one execution: inputs in the form it asks for, and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from snnconvert.models.onnx.batch_entry import BatchEntry
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.values import HostArray, Value, as_tensor

Number = float | int | torch.SymInt | torch.SymFloat


@dataclass(frozen=True)
class Call:
    """One execution of one node.

    Attributes:
        node: The node.
        values: Its inputs; None for one left out, or one that is only known as numbers.
        hosts: The numbers of small constants, by position.
        prepared: Positions of weights that the operator's preparation brought into its own form.
        batch: Where a fixed shape must give way to the true batch, if anywhere.
    """

    node: OnnxNode
    values: tuple[Value | None, ...]
    hosts: tuple[HostArray | None, ...]
    prepared: frozenset[int] = frozenset()
    batch: BatchEntry | None = None

    @property
    def opset(self) -> int:
        """The opset that applies."""
        return self.node.opset

    @property
    def outputs(self) -> int:
        """How many outputs the node has."""
        return len(self.node.outputs)

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return position < len(self.values) and (self.values[position] is not None or self.hosts[position] is not None)

    def raw(self, position: int) -> Value:
        """An input in whatever form it has."""
        if not self.has(position):
            raise self.node.malformed(f"input {position} is missing")
        value = self.values[position]
        return cast("Value", self.hosts[position] if value is None else value)

    def tensor(self, position: int) -> Tensor:
        """An input as a tensor."""
        return as_tensor(self.raw(position))

    def maybe(self, position: int) -> Tensor | None:
        """An input as a tensor, or None if it is left out."""
        return self.tensor(position) if self.has(position) else None

    def tensors(self) -> list[Tensor]:
        """All inputs as tensors."""
        return [self.tensor(position) for position in range(len(self.values))]

    def host(self, position: int) -> HostArray:
        """An input as plain numbers.

        Raises:
            ConversionError: if it is computed from activations.
        """
        value = self.raw(position)
        host = value if isinstance(value, HostArray) else self.hosts[position]
        if host is None:
            name = self.node.inputs[position]
            raise self.node.unsupported(
                f"input {position} ('{name}') must be a constant or follow from shapes, and is computed from data"
            )
        return host

    def number(self, position: int) -> Any:
        """An input of one element as a Python number."""
        return self.host(position).item()

    def operand(self, position: int, rank: int) -> Tensor | Number:
        """An input as a plain number if it is one that broadcasts, else as a tensor."""
        value = self.raw(position)
        if isinstance(value, HostArray) and value.values.size == 1 and value.values.ndim <= rank:
            return cast("Number", value.item())
        return as_tensor(value)

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        return int(self._attribute(name, default, (int,)))

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        return bool(self._attribute(name, default, (int,)))

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis` as a dimension 0..rank − 1."""
        return self.dimension(self.integer("axis", default), rank)

    def dimension(self, axis: int, rank: int) -> int:
        """A dimension counted from the front, whichever end it was counted from.

        Raises:
            InputError: if there is no such dimension.
        """
        if not -rank <= axis < max(rank, 1):
            raise self.node.malformed(f"there is no dimension {axis} in {rank} dimensions")
        return axis % rank if rank else 0

    def real(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        return float(self._attribute(name, default, (int, float)))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a text."""
        return str(self._attribute(name, default, (str,)))

    def ints(self, name: str) -> list[int] | None:
        """An attribute that is a list of integers, or None."""
        found = self._attribute(name, None, (list,))
        return None if found is None else [int(item) for item in found]

    def floats(self, name: str) -> list[float] | None:
        """An attribute that is a list of numbers, or None."""
        found = self._attribute(name, None, (list,))
        return None if found is None else [float(item) for item in found]

    def numbers(self, name: str, position: int) -> list[Any] | None:
        """A list that is an attribute in older opsets and an input in newer ones, or None."""
        if self.has(position):
            return self.host(position).items()
        found = self._attribute(name, None, (list, int))
        return [found] if isinstance(found, int) else cast("list[Any] | None", found)

    def _attribute(self, name: str, default: Any, kinds: Sequence[type]) -> Any:
        found = self.node.attributes.get(name, default)
        if found is not default and not isinstance(found, tuple(kinds)):
            raise self.node.malformed(f"the attribute {name} is of another type than ONNX says")
        return found
