"""Branches and loops that shapes decide: what a number is at the declared shape, whatever the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snnconvert.models.onnx.assemble import Assembler
from snnconvert.models.onnx.batch import run_dry
from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.layers import OnnxLayer
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.values import HostArray

_BATCHES = (2, 3)


@dataclass
class _Watched:
    """Remembers one value of a run."""

    name: str
    found: list[Any] = field(default_factory=list)

    def __call__(self, layer: OnnxLayer, _inputs: tuple[Any, ...], outputs: tuple[Any, ...] | None) -> None:
        if outputs is not None and self.name in layer.node.outputs:
            self.found.append(outputs[layer.node.outputs.index(self.name)])


def decided(name: str, nodes: Sequence[OnnxNode], constants: Mapping[str, Tensor], inputs: Sequence[OnnxInput]) -> Any:
    """The number that a value is by shapes alone, or None if it isn't, or depends on the batch.

    Args:
        name: The value.
        nodes: All nodes before the branch.
        constants: Tensors by name.
        inputs: What the file declares.

    Raises:
        ConversionError: if the nodes don't run at the declared shape.
    """
    network = Assembler(constants).network(nodes, [item.name for item in inputs], {name: name})
    watched = _Watched(name)
    declared = inputs[0].shape[0] if inputs[0].shape else None
    for batch in _BATCHES if declared is None else (declared,):
        run_dry(network, inputs, batch, watched)
    if not watched.found or not all(isinstance(value, HostArray) and value.values.size == 1 for value in watched.found):
        return None
    answers = {value.item() for value in watched.found}
    return answers.pop() if len(answers) == 1 else None
