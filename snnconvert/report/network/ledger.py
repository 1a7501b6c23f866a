"""Writes down what a network's synapses read, layer by layer, over all calls of one run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from snnconvert.report.network.integers import Integers, recognize, weight_bits_of
from snnconvert.report.network.operators import MATMUL, Call
from snnconvert.report.network.origins import Origin, Origins
from snnconvert.report.network.watch import Frame, Listener

Key = tuple[Any, ...]


@dataclass
class LayerRecord:
    """One layer of synapses so far.

    Attributes:
        name: of the module that owns its weight, or that computes the product.
        op: its operator.
        shape: of what one call reads, before rows were folded.
        is_product: whether it multiplies two activations.
        fan_in: products that one output adds up.
        weights: how many it has.
        weight_bits: None for floating-point weights.
        calls: how many.
        macs: of all calls.
        outputs: of all calls.
        reads: integers that calls read; None if any read real numbers.
        holds: the same of a product's second operand.
        of_input: whether any call depended on the network's input.
        reads_input: whether no synapse comes before it.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    is_product: bool
    fan_in: int
    weights: int
    weight_bits: int | None
    calls: int = 0
    macs: int = 0
    outputs: int = 0
    reads: list[Integers] | None = field(default_factory=list)
    holds: list[Integers] | None = field(default_factory=list)
    of_input: bool = False
    reads_input: bool = True


@dataclass
class ModuleRecord:
    """Element-wise work of one module so far.

    Attributes:
        name: the module's.
        calls: how many.
        operations: its own, by operator and shape of the result.
        has_synapses: whether any ran in it.
        fires: whether every call compared or rounded something, without synapses, and gave spikes.
        inside: names of the modules that ran inside.
    """

    name: str
    calls: int = 0
    operations: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    has_synapses: bool = False
    fires: bool | None = None
    inside: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Roles:
    read: Tensor
    read_origin: Origin
    rows: Tensor | None
    weight_origin: Origin
    channel: int


class Ledger(Listener):
    """Everything one run of a network does."""

    def __init__(self, module: nn.Module) -> None:
        self.network = type(module).__name__
        self.origins = Origins()
        self.layers: dict[Key, LayerRecord] = {}
        self.modules: dict[str, ModuleRecord] = {}
        self.unread_operators: set[tuple[str, str]] = set()

    def unread(self, operator: str, frame: Frame) -> None:
        """See the base."""
        self.unread_operators.add((operator, frame.name or self.network))

    def synapse(self, call: Call, frame: Frame, shapes: Sequence[tuple[int, ...]], line: str | None) -> None:
        """See the base."""
        roles = self._roles(call)
        shape = _shape(call, roles, shapes)
        name = self._name(roles.weight_origin, frame)
        op = "linear" if call.op == MATMUL and roles.read is call.left and roles.rows is not None else call.op
        key = (name, op, call.hidden, roles.rows is None, shape, call.outputs, line, roles.weight_origin.parameters)
        record = self.layers.get(key)
        if record is None:
            record = self.layers[key] = _opened(call, op, roles, shape, name)
        record.calls += 1
        record.macs += call.macs
        record.outputs += call.outputs
        record.of_input |= roles.read_origin.of_input
        record.reads_input &= roles.read_origin.is_input
        _append(record, call, roles)

    def module_ends(self, frame: Frame, output: Any) -> None:
        """See the base."""
        record = self.modules.setdefault(frame.name, ModuleRecord(frame.name))
        record.calls += 1
        record.has_synapses |= frame.synapses
        record.inside |= frame.inside
        for key, count in frame.operations.items():
            record.operations[key] = record.operations.get(key, 0) + count
        if frame.synapses or not frame.operations or not frame.decides:
            record.fires = False
        elif record.fires is not False:
            record.fires = _gives_spikes(output)

    def _roles(self, call: Call) -> _Roles:
        left, right = self.origins.get(call.left), self.origins.get(call.right)
        if left.of_input and right.of_input:
            both = Origin(True, left.is_input and right.is_input)
            return _Roles(call.left, both, None, Origin(), call.channels[0])
        swapped = not left.of_input and (right.of_input or (bool(left.parameters) and not right.parameters))
        if swapped and call.left_rows is not None:
            read = call.right.mT if call.right.dim() > 1 else call.right
            return _Roles(read, right, call.left_rows, left, -1)
        return _Roles(call.left, left, call.right_rows, right, call.channels[0])

    def _name(self, weight: Origin, frame: Frame) -> str:
        owner = weight.owner()
        if owner:
            return owner
        if owner == "" and len(weight.parameters) == 1:
            return next(iter(weight.parameters))
        return frame.name or self.network


def _opened(call: Call, op: str, roles: _Roles, shape: tuple[int, ...], name: str) -> LayerRecord:
    rows = roles.rows
    return LayerRecord(
        name=name,
        op=op,
        shape=shape,
        is_product=rows is None,
        fan_in=max(call.fan_in, 1),
        weights=0 if rows is None else rows.numel(),
        weight_bits=None if rows is None else weight_bits_of(rows),
    )


def _append(record: LayerRecord, call: Call, roles: _Roles) -> None:
    """Adds what a call reads; once anything is real the rest needn't be looked at."""
    if call.hidden:
        record.reads = None
    if record.reads is not None:
        found = recognize(roles.read, roles.channel)
        unfolded = None if found is None else _reshaped(found, record.shape)
        record.reads = None if unfolded is None else [*record.reads, unfolded]
    if record.is_product and record.holds is not None:
        held = recognize(call.right, call.channels[1])
        record.holds = None if held is None else [*record.holds, held]


def _reshaped(found: Integers, shape: tuple[int, ...]) -> Integers:
    """The same integers before their rows were folded."""
    if tuple(found.codes.shape) == shape:
        return found
    scale = found.scale if found.scale.dim() == 0 else found.scale.reshape([1] * (len(shape) - 1) + [-1])
    return dataclasses.replace(found, codes=found.codes.reshape(shape), scale=scale)


def _shape(call: Call, roles: _Roles, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return _unfolded(roles.read, shapes) if call.left is roles.read else tuple(roles.read.shape)


def _unfolded(read: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape a folded operand had when torch's function was called with it."""
    shape = tuple(read.shape)
    return next(
        (
            given
            for given in shapes
            if len(given) > read.dim() and given[-1:] == shape[-1:] and math.prod(given) == read.numel()
        ),
        shape,
    )


def _gives_spikes(output: Any) -> bool:
    fired = next((item for item in tree_leaves(output) if isinstance(item, Tensor) and item.is_floating_point()), None)
    return fired is not None and recognize(fired, 1) is not None
