"""The network as modules: one layer a node, run in order on a table of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.errors import ConversionError, SnnConvertError, first_line
from snnconvert.models.onnx.batch_entry import BatchEntry
from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import find_host_op, find_op, unpack
from snnconvert.models.onnx.values import HostArray, Value, as_tensor

Observer = Callable[["OnnxLayer", tuple["Value | None", ...], "tuple[Any, ...] | None"], None]


class OnnxLayer(nn.Module):
    """One node: y = op(x, its constants). A layer may also contain the layers whose names begin with its own."""

    def __init__(
        self, node: OnnxNode, tensors: dict[int, str], hosts: tuple[HostArray | None, ...], prepared: frozenset[int]
    ) -> None:
        super().__init__()
        self.node = node
        self.tensor_names = tensors
        self.hosts = hosts
        self.prepared = prepared
        self.batch: BatchEntry | None = None

    def forward(self, *runtime: Value | None) -> tuple[Any, ...]:
        """The node's outputs.

        Args:
            runtime: Values by input position; None where the input is constant or left out.
        """
        try:
            return self._run(runtime)
        except SnnConvertError:
            raise
        except Exception as error:  # torch raises many types on inputs that don't fit
            raise ConversionError(f"{self.node.describe()} fails: {first_line(error)}") from error

    def _run(self, runtime: tuple[Value | None, ...]) -> tuple[Any, ...]:
        on_host = all(value is None or isinstance(value, HostArray) for value in runtime)
        host_run = find_host_op(self.node.domain, self.node.op_type) if on_host else None
        if host_run is not None and all(self._is_shape(position, value) for position, value in enumerate(runtime)):
            numbers = tuple(self.hosts[i] if value is None else value for i, value in enumerate(runtime))
            result = host_run(Call(self.node, numbers, self.hosts))
            if result is not None:
                return unpack(result)
        values = tuple(self._constant(i) if value is None else value for i, value in enumerate(runtime))
        entry = find_op(self.node.domain, self.node.op_type, self.node.opset)
        assert entry is not None
        return unpack(entry.run(Call(self.node, values, self.hosts, self.prepared, self.batch)))

    def _is_shape(self, position: int, value: Value | None) -> bool:
        """Whether an input is, or looks like, part of a shape: a list of integers, or one number."""
        host = self.hosts[position]
        if value is not None or self.node.inputs[position] is None:
            return True
        return host is not None and (
            host.values.size == 1 or (not host.dtype.is_floating_point and host.values.ndim < 3)
        )

    def _constant(self, position: int) -> Tensor | None:
        name = self.tensor_names.get(position)
        return None if name is None else getattr(self, name)


class Container(nn.Module):
    """A name that several layers share the beginning of."""


@dataclass(frozen=True)
class Step:
    """One layer's place in the run.

    Attributes:
        path: The layer's dotted name.
        inputs: Names of values that aren't constant, by position.
        outputs: Names of its results.
        dead: Values nobody reads after it.
    """

    path: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    dead: tuple[str, ...]


class OnnxNetwork(nn.Module):
    """A whole file: a tensor for each input in, one tensor or a dict of tensors out."""

    def __init__(self, inputs: Sequence[str], outputs: dict[str, str]) -> None:
        super().__init__()
        self.input_names = tuple(inputs)
        self.output_sources = dict(outputs)
        self.steps: tuple[Step, ...] = ()
        self.constant_outputs: dict[str, str] = {}

    def forward(self, first: Tensor, *others: Tensor) -> Tensor | dict[str, Tensor]:
        """The outputs: one tensor if the file has one output, else tensors by name.

        The last inputs may be left out if nothing reads them.

        Raises:
            ConversionError: if the inputs don't fit the network.
        """
        return self.run((first, *others))

    def run(self, inputs: Sequence[Tensor], observer: Observer | None = None) -> Tensor | dict[str, Tensor]:
        """As :meth:`forward`, while an observer sees every layer before (outputs None) and after its run."""
        if not self._least() <= len(inputs) <= len(self.input_names):
            raise ConversionError(f"the network takes {len(self.input_names)} inputs, {len(inputs)} were given")
        values: dict[str, Any] = dict(zip(self.input_names, inputs, strict=False))
        for step in self.steps:
            layer = self.get_submodule(step.path)
            arguments = tuple(None if name is None else values[name] for name in step.inputs)
            if observer is not None:
                observer(layer, arguments, None)  # type: ignore[arg-type]
            results = layer(*arguments)
            if observer is not None:
                observer(layer, arguments, results)  # type: ignore[arg-type]
            values.update({name: value for name, value in zip(step.outputs, results, strict=False) if name})
            for name in step.dead:
                values.pop(name, None)
        return self._results(values)

    def _least(self) -> int:
        """How many inputs there must be so that none is missing that something reads."""
        read = {name for step in self.steps for name in step.inputs} | set(self.output_sources.values())
        return max((index for index, name in enumerate(self.input_names, 1) if name in read), default=0)

    def _results(self, values: dict[str, Any]) -> Tensor | dict[str, Tensor]:
        results = {}
        for name, source in self.output_sources.items():
            if name in self.constant_outputs:
                results[name] = getattr(self, self.constant_outputs[name])
            else:
                results[name] = as_tensor(values[source])
        return next(iter(results.values())) if len(results) == 1 else results

    def place(self, path: str, layer: OnnxLayer) -> str:
        """Adds a layer at a dotted path; the path it really got, where a name was taken.

        Containers that a layer takes the name of are replaced by the layer, with their contents.
        """
        parent: nn.Module = self
        *heads, last = path.split(".")
        reached: list[str] = []
        for head in heads:
            name = _free_name(parent, head)
            if name not in parent._modules:
                parent.add_module(name, Container())
            reached.append(name)
            parent = parent.get_submodule(name)
        name = _free_name(parent, last)
        existing = parent._modules.get(name)
        if isinstance(existing, Container):
            for inner, module in existing.named_children():
                layer.add_module(inner, module)
        elif existing is not None:
            name = _unused_name(parent, name)
        parent.add_module(name, layer) if name not in parent._modules else parent._modules.update({name: layer})
        return ".".join([*reached, name])


def _free_name(parent: nn.Module, name: str) -> str:
    while name not in parent._modules and hasattr(parent, name):
        name = f"{name}_"
    return name


def _unused_name(parent: nn.Module, name: str) -> str:
    index = 1
    while hasattr(parent, f"{name}_{index}"):
        index += 1
    return f"{name}_{index}"


def concrete_results(results: Tensor | dict[str, Tensor]) -> list[torch.Size]:
    """The shapes of a run's outputs."""
    return [value.shape for value in (results.values() if isinstance(results, dict) else [results])]
