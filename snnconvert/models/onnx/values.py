"""What flows between nodes: tensors, plain numbers on the host, and quantized tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class HostArray:
    """Numbers that are known without looking at activations: shapes and what is computed from them.

    Holding Python numbers (and torch.SymInt while a graph is captured) keeps shape arithmetic out of
    the graph of tensors.

    Attributes:
        values: Array of Python objects of any shape.
        dtype: The tensor type they stand for.
    """

    values: np.ndarray
    dtype: torch.dtype

    @classmethod
    def of(cls, items: Iterable[Any], dtype: torch.dtype = torch.int64) -> HostArray:
        """A vector of the items, [n]."""
        listed = list(items)
        values = np.empty(len(listed), dtype=object)
        for index, item in enumerate(listed):
            values[index] = item
        return cls(values, dtype)

    @classmethod
    def scalar(cls, item: Any, dtype: torch.dtype = torch.int64) -> HostArray:
        """One number, []."""
        return cls(cls.of([item], dtype).values.reshape(()), dtype)

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> HostArray:
        """The numbers of a constant."""
        return cls(cls.of(tensor.reshape(-1).tolist()).values.reshape(tuple(tensor.shape)), tensor.dtype)

    def items(self) -> list[Any]:
        """The numbers in row-major order."""
        return list(self.values.reshape(-1))

    def item(self) -> Any:
        """The only number."""
        (item,) = self.items()
        return item

    def with_values(self, values: Any, dtype: torch.dtype | None = None) -> HostArray:
        """The same type with other numbers."""
        array = values if isinstance(values, np.ndarray) else self.scalar(values).values
        return HostArray(array, dtype or self.dtype)

    def map(self, function: Callable[[Any], Any], dtype: torch.dtype | None = None) -> HostArray:
        """f(x) for every number."""
        mapped = self.of((function(item) for item in self.items()), dtype or self.dtype)
        return HostArray(mapped.values.reshape(self.values.shape), mapped.dtype)

    def is_concrete(self) -> bool:
        """Whether no number is symbolic."""
        return all(isinstance(item, (bool, int, float)) for item in self.items())

    def to_tensor(self) -> Tensor:
        """The numbers as a tensor."""
        items, shape = self.items(), self.values.shape
        if self.is_concrete():
            return torch.tensor(items, dtype=self.dtype).reshape(shape)
        stacked = torch.stack([torch.scalar_tensor(item, dtype=self.dtype) for item in items])
        return stacked.reshape(shape)


@dataclass(frozen=True)
class Constant:
    """A tensor that a node holds itself.

    Attributes:
        tensor: The tensor.
        host: Its numbers, unless it is large.
    """

    tensor: Tensor
    host: HostArray | None


@dataclass(frozen=True)
class Quantization:
    """x ≈ scale·(q − zero_point) with low ≤ q ≤ high.

    Attributes:
        scale: [] or [C].
        zero_point: int32, the scale's shape.
        low: Smallest integer.
        high: Largest integer.
        axis: The channels' dimension if the scale is a vector.
        dtype: Of the integers.
        numbers: Scales and zero points as plain numbers where they are constants.
    """

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int
    axis: int
    dtype: torch.dtype
    numbers: tuple[tuple[float, ...], tuple[int, ...]] | None = None

    def shaped(self, tensor: Tensor, rank: int) -> Tensor:
        """A scale or zero point so that it broadcasts over a value of the given rank."""
        if tensor.dim() == 0 or tensor.numel() == 1:
            return tensor.reshape(())
        return tensor.reshape([-1 if dim == self.axis % rank else 1 for dim in range(rank)])


@dataclass(frozen=True)
class Quantized:
    """An activation rounded to the grid of a quantization, carried as the real numbers it stands for.

    Attributes:
        real: scale·(q − zero_point).
        grid: The quantization.
    """

    real: Tensor
    grid: Quantization

    def integers(self) -> Tensor:
        """The integers q = round(real / scale) + zero_point."""
        scale = self.grid.shaped(self.grid.scale, self.real.dim())
        zero = self.grid.shaped(self.grid.zero_point, self.real.dim())
        return (torch.round(self.real / scale) + zero).clamp(self.grid.low, self.grid.high).to(self.grid.dtype)


Value: TypeAlias = "Tensor | HostArray | Quantized"
Result: TypeAlias = "Value | Sequence[Value | None]"


def as_tensor(value: Value) -> Tensor:
    """Any value as the tensor that ONNX means by it."""
    if isinstance(value, HostArray):
        return value.to_tensor()
    return value.integers() if isinstance(value, Quantized) else value
