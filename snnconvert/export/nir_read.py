"""Reading NIR graphs and running them as NIR defines them, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.errors import InputError, first_line
from snnconvert.export.nir_nodes import nir_package

_STATELESS = ("Conv1d", "Conv2d", "Linear", "Affine", "Scale", "Flatten", "AvgPool2d", "SumPool2d", "Output")


class NirNetwork:
    """A NIR graph of synapses, pools and integrate-and-fire neurons, run without delays within a tick.

    NIR's IF: v ← v + r·x, s = [v > θ], v ← v_reset where s; v starts at 0. Incoming edges add up.

    Attributes:
        metadata: what the file says about itself.
    """

    def __init__(self, nodes: Mapping[str, Any], edges: list[tuple[str, str]], metadata: Mapping[str, Any]) -> None:
        self.metadata = dict(metadata)
        self._nodes = dict(nodes)
        self._sources = {name: [a for a, b in edges if b == name] for name in nodes}
        self._check()
        try:
            self._order = list(TopologicalSorter(self._sources).static_order())
        except CycleError as error:
            raise InputError(f"the graph has a cycle: {' -> '.join(error.args[1])}") from None

    def run(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The output [T, N, ...] and the spikes uint8 [T, N, ...] of every IF node.

        Args:
            inputs: [T, N, ...] of the graph's input shape; parameters are used in its type.
        """
        potentials: dict[str, Tensor] = {}
        outputs: list[Tensor] = []
        spikes: dict[str, list[Tensor]] = {name: [] for name in self._kinds("IF")}
        (entry,), (leaving,) = self._kinds("Input"), self._kinds("Output")
        for step in inputs:
            sent = {entry: step}
            for name in self._order:
                if name == entry:
                    continue
                arriving = _total([sent[source] for source in self._sources[name]])
                if name in spikes:
                    node, before = self._nodes[name], potentials.get(name)
                    sent[name], potentials[name] = _integrate_and_fire(node, arriving, before)
                    spikes[name].append(sent[name].to(torch.uint8))
                else:
                    sent[name] = _stateless(self._nodes[name], arriving)
            outputs.append(sent[leaving])
        return torch.stack(outputs), {name: torch.stack(train) for name, train in spikes.items()}

    def _kinds(self, kind: str) -> list[str]:
        return [name for name, node in self._nodes.items() if type(node).__name__ == kind]

    def _check(self) -> None:
        known = (*_STATELESS, "Input", "IF")
        unknown = sorted({type(node).__name__ for node in self._nodes.values()} - set(known))
        if unknown:
            raise InputError(f"the graph has nodes that can't be run here: {', '.join(unknown)}")
        if len(self._kinds("Input")) != 1 or len(self._kinds("Output")) != 1:
            raise InputError("a graph needs one input and one output")
        unfed = [name for name, sources in self._sources.items() if not sources and name not in self._kinds("Input")]
        if unfed:
            raise InputError(f"nothing leads to {', '.join(unfed)}")


def read_nir(path: str | Path) -> NirNetwork:
    """Reads a NIR file.

    Raises:
        InputError: if the nir package isn't installed, the file can't be read, or the graph holds nodes
            that can't be run here (all of them are named) or a cycle.
    """
    nir = nir_package()
    try:
        graph = nir.read(str(path))
    except Exception as error:  # whatever a damaged file makes h5py or nir raise
        raise InputError(f"{path} can't be read as NIR: {first_line(error)}") from None
    return NirNetwork(graph.nodes, list(graph.edges), graph.metadata)


def _total(arriving: list[Tensor]) -> Tensor:
    total = arriving[0]
    for other in arriving[1:]:
        total = total + other
    return total


def _integrate_and_fire(node: Any, current: Tensor, potential: Tensor | None) -> tuple[Tensor, Tensor]:
    rest = _tensor(node.v_reset, current)
    before = torch.zeros_like(current) if potential is None else potential
    charged = before + _tensor(node.r, current) * current
    fired = charged > _tensor(node.v_threshold, current)
    return fired.to(current.dtype), torch.where(fired, rest.expand_as(charged), charged)


def _stateless(node: Any, x: Tensor) -> Tensor:
    kind = type(node).__name__
    if kind == "Output":
        return x
    if kind in ("Conv1d", "Conv2d"):
        convolve = F.conv1d if kind == "Conv1d" else F.conv2d
        weight, bias = _tensor(node.weight, x), _tensor(node.bias, x)
        return convolve(x, weight, bias, _sizes(node.stride), _padding(node), _sizes(node.dilation), int(node.groups))
    if kind in ("Linear", "Affine"):
        return F.linear(x, _tensor(node.weight, x), _tensor(node.bias, x) if kind == "Affine" else None)
    if kind == "Scale":
        return x * _tensor(node.scale, x)
    if kind == "Flatten":
        last = int(node.end_dim)
        return x.flatten(int(node.start_dim) + 1, last if last < 0 else last + 1)
    kernel, stride, padding = _sizes(node.kernel_size), _sizes(node.stride), _sizes(node.padding)
    divisor = 1 if kind == "SumPool2d" else int(np.prod(kernel))
    return F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor)


def _tensor(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device)


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in np.atleast_1d(value))


def _padding(node: Any) -> str | tuple[int, ...]:
    return node.padding if isinstance(node.padding, str) else _sizes(node.padding)
