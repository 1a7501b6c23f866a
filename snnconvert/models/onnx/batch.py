"""Fixed batches become dynamic: two runs on shapes alone tell where a constant shape carries the batch.

A file declared at batch D often reshapes to constants that contain D. The network runs once at D and
once at another batch P, on tensors without values; a dimension that differs between the runs carries
the batch. Where a node's constant target would put D there, the target's entry is replaced by
x.shape[axis]·m/d, which is the constant at batch D, and scales with the batch at others. A dynamic
quantization, whose range is that of all it is given, takes the range of each sample.

At batch 1 an exporter may write a transposition as a reshape. Only if the network doesn't follow the
batch otherwise are such reshapes read as transpositions, and kept if samples then don't mix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snnconvert.errors import SnnConvertError
from snnconvert.models.onnx.batch_entry import BatchEntry
from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.dry_run import dry_run
from snnconvert.models.onnx.layers import OnnxLayer, OnnxNetwork, concrete_results
from snnconvert.models.onnx.limits import MOST_ELEMENTS
from snnconvert.models.onnx.samples import keeps_samples_apart
from snnconvert.models.onnx.values import HostArray, Quantized, Value

_FACTOR = 5
_ANY_SIZE = 224
_TARGETED = frozenset({"Reshape", "Expand", "Concat"})
_RANGED = frozenset({"DynamicQuantizeLinear"})
_SEEN = _TARGETED | _RANGED | {"Gather"}


@dataclass(frozen=True)
class _Seen:
    shapes: tuple[tuple[int, ...] | None, ...]
    target: tuple[Any, ...] | None
    resolved: tuple[int, ...]


@dataclass
class _Declared:
    """What each layer saw at the declared batch."""

    seen: dict[OnnxLayer, _Seen] = field(default_factory=dict)

    def __call__(self, layer: OnnxLayer, inputs: tuple[Value | None, ...], outputs: tuple[Any, ...] | None) -> None:
        for value in outputs or ():
            shape = _shape(value)
            if shape is not None and math.prod(shape) > MOST_ELEMENTS:
                raise layer.node.malformed(f"its output would have the shape {list(shape)}, more than a network needs")
        if outputs is not None and layer.node.op_type in _SEEN:
            self.seen[layer] = _Seen(tuple(map(_shape, inputs)), _target(layer, inputs), _shape(outputs[0]) or ())


@dataclass
class _Patching:
    """Replaces batch entries of constant shapes while the network runs at another batch."""

    declared: dict[OnnxLayer, _Seen]
    batch: int
    fixed: bool = True
    moved: bool = False

    def __call__(self, layer: OnnxLayer, inputs: tuple[Value | None, ...], outputs: tuple[Any, ...] | None) -> None:
        if outputs is None and layer in self.declared:
            before = self.declared[layer]
            if layer.node.op_type in _RANGED:
                if self.batch == 1 or not self.fixed:
                    layer.batch = _ranged_entry(before.shapes[0], _shape(inputs[0]), self.batch)
            elif layer.node.op_type == "Gather":
                if self.fixed and self.batch == 1:
                    layer.batch = _gathered_entry(layer, before.shapes[0], _shape(inputs[0]))
            elif self.fixed and layer.node.op_type == "Concat":
                layer.batch = _concat_entry(before.shapes, [_shape(value) for value in inputs])
            elif self.fixed and before.target is not None and before.target == _target(layer, inputs):
                layer.batch = self._entry(layer, before, _shape(inputs[0]))

    def _entry(self, layer: OnnxLayer, before: _Seen, now: tuple[int, ...] | None) -> BatchEntry | None:
        was = before.shapes[0]
        axis = _differing(was, now)
        if axis is None or was is None:
            return None
        if layer.node.op_type == "Expand":
            entry = axis + len(before.resolved) - len(was)
            same = before.resolved[entry] == was[axis] and was[axis] > 1
            return BatchEntry(axis, entry) if same else None
        found = _reshape_entry(was, before.resolved, axis, self.batch)
        return _moved_entry(was, before.resolved, axis, found) if self.moved else found


def make_batch_dynamic(network: OnnxNetwork, inputs: Sequence[OnnxInput]) -> None:
    """Lets a network whose inputs declare one fixed batch run at any.

    Raises:
        ConversionError: if the network can't run at its declared shape.
    """
    declared = _Declared()
    batch = inputs[0].shape[0] if inputs[0].shape else None
    try:
        run_dry(network, inputs, batch or 2, declared)
    except SnnConvertError:
        if all(size is not None for item in inputs for size in item.shape[1:]):
            raise
        return
    ranged = any(layer.node.op_type in _RANGED for layer in declared.seen)
    if batch == 0 or (batch is None and not ranged):
        return
    patching = _Patching(declared.seen, batch or 2, batch is not None)
    if _follows(network, inputs, patching, batch) or batch != 1:
        return  # a network that is tied to its batch still runs at that batch; capture names the reason
    before = {layer: layer.batch for layer in declared.seen}
    patching.moved = True
    if not (_follows(network, inputs, patching, batch) and keeps_samples_apart(network, inputs)):
        for layer, entry in before.items():
            layer.batch = entry


def _follows(network: OnnxNetwork, inputs: Sequence[OnnxInput], patching: _Patching, batch: int | None) -> bool:
    """Whether the network, patched on the way, runs at another batch, and every output has that batch in front."""
    other = patching.batch * _FACTOR
    try:
        shapes = concrete_results(run_dry(network, inputs, other, patching, only=batch))
    except SnnConvertError:
        return False
    return all(shape[:1] == (other,) for shape in shapes)


def run_dry(
    network: OnnxNetwork, inputs: Sequence[OnnxInput], batch: int, observer: Any, only: int | None = None
) -> Tensor | dict[str, Tensor]:
    """Runs a network on shapes alone, at its declared shape but for the batch.

    Args:
        network: The network.
        inputs: What the file declares.
        batch: Put where the first dimension is open, or equals `only`.
        observer: Sees every layer before and after it runs.
        only: The declared batch to replace.

    Returns:
        The outputs, without values.

    Raises:
        ConversionError: if it doesn't run.
    """
    with dry_run():
        tensors = [torch.empty(_sizes(item, batch, only), dtype=item.dtype) for item in inputs]
        return network.run(tensors, observer)


def _sizes(item: OnnxInput, batch: int, only: int | None) -> list[int]:
    sizes = [_ANY_SIZE if size is None else size for size in item.shape]
    if sizes and (item.shape[0] is None or item.shape[0] == only):
        sizes[0] = batch
    return sizes


def _shape(value: object) -> tuple[int, ...] | None:
    if isinstance(value, Quantized):
        value = value.real
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else None


def _target(layer: OnnxLayer, inputs: tuple[Value | None, ...]) -> tuple[Any, ...] | None:
    """The shape a Reshape or Expand asks for, as it stands there."""
    if len(layer.hosts) < 2:
        return None
    value = inputs[1] if inputs[1] is not None else layer.hosts[1]
    return tuple(value.items()) if isinstance(value, HostArray) else None


def _differing(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> int | None:
    """The only dimension in which two shapes differ, or None."""
    if before is None or after is None or len(before) != len(after):
        return None
    axes = [axis for axis, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    return axes[0] if len(axes) == 1 else None


def _reshape_entry(was: tuple[int, ...], target: tuple[int, ...], axis: int, batch: int) -> BatchEntry | None:
    """The target's entry that begins at the same place in memory as the batch does."""
    outer = math.prod(was[:axis])
    starting = [index for index in range(len(target)) if math.prod(target[:index]) == outer]
    exact = [index for index in starting if target[index] == batch]
    merged = [index for index in starting if target[index] % batch == 0]
    if 0 in target or not (exact or merged):
        return None
    entry = (exact or merged[::-1])[0]
    common = math.gcd(target[entry], was[axis])
    return BatchEntry(axis, entry, target[entry] // common, was[axis] // common)


def _moved_entry(
    was: tuple[int, ...], target: tuple[int, ...], axis: int, entry: BatchEntry | None
) -> BatchEntry | None:
    """The entry a batch of one moves to, where a transposition may hide in a reshape; else the entry in place."""
    others = was[:axis] + was[axis + 1 :]
    ones = [index for index, size in enumerate(target) if size == 1]
    exact = [index for index in ones if index != axis and target[:index] + target[index + 1 :] == others]
    if not exact and (not ones or (entry is not None and target[entry.entry] == 1)):
        return entry
    return BatchEntry(axis, (exact or ones)[0], moved=True)


def _gathered_entry(layer: OnnxLayer, was: tuple[int, ...] | None, now: tuple[int, ...] | None) -> BatchEntry | None:
    """How many values one sample has, if all values in a row are picked from by constant places of one sample."""
    name = layer.tensor_names.get(1)
    if was is None or now is None or not len(was) == len(now) == 1 or was == now or name is None:
        return None
    places: Tensor = getattr(layer, name)
    one = places.dim() > 1 and places.shape[0] == 1
    return BatchEntry(0, 0, was[0]) if one else None


def _ranged_entry(was: tuple[int, ...] | None, now: tuple[int, ...] | None, batch: int) -> BatchEntry | None:
    """The dimension of a value that carries the batch, and how many of its entries one sample has."""
    axis = _differing(was, now)
    if axis is None or was is None or was[axis] % batch:
        return None
    return BatchEntry(axis, axis, was[axis] // batch)


def _concat_entry(
    before: Sequence[tuple[int, ...] | None], after: Sequence[tuple[int, ...] | None]
) -> BatchEntry | None:
    """The dimension that carries the batch in some inputs of a concat, so that constants can follow."""
    for was, now in zip(before, after, strict=True):
        axis = _differing(was, now)
        if axis is not None and was is not None and was[axis] == 1:
            return BatchEntry(axis, axis)
    return None
