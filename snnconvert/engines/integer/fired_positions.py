"""Tables of few grid points: a synapse's kernel fires the positions, as bytes, and words are those of the bytes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.gates import Gate, gate_of
from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.twins import Bytes, FireWords, looked_up, onnx_node
from snnconvert.neurons.byte_tables import GATE_STEPS, POTENTIALS
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer


def fires_from_table(transfer: fx.Node, modules: Mapping[fx.Node, nn.Module]) -> bool:
    """Whether one layer of neurons reads a transfer, all with one gain: their words are its table."""
    if not isinstance(modules.get(transfer), TableTransfer) or len(transfer.users) != 1:
        return False
    neuron = modules.get(next(iter(transfer.users)))
    return isinstance(neuron, SpikingNeuron) and isinstance(neuron.code, PackedCode) and neuron.is_uniform


def has_positions(node: fx.Node, modules: Mapping[fx.Node, nn.Module], dialect: Dialect) -> bool:
    """Whether neurons fire from a transfer whose grid's positions a synapse's kernel can fire.

    Args:
        node: any node of a spiking graph.
        modules: the graph's modules by node.
        dialect: the runtime's.
    """
    transfer = modules.get(node)
    if not dialect.fires_positions or not isinstance(transfer, TableTransfer) or not fires_from_table(node, modules):
        return False
    return -LARGEST_BYTE <= int(transfer.first) <= 0 and len(transfer.table) <= POTENTIALS


def fires_positions(node: fx.Node, modules: Mapping[fx.Node, nn.Module], dialect: Dialect) -> bool:
    """Whether a transfer's positions are fired where it reads them: from a synapse that nothing else reads."""
    if not has_positions(node, modules, dialect):
        return False
    source = node.args[0]
    return isinstance(source, fx.Node) and isinstance(modules.get(source), Synapse) and len(source.users) == 1


def position_bytes(transfer: TableTransfer) -> Bytes:
    """How grid positions are stored: the first one is byte 0, and those above the last have bytes of their own."""
    first = int(transfer.first)
    return Bytes(-first, LARGEST_BYTE + first, signed=False)


def words_of_positions(transfer: TableTransfer, neuron: SpikingNeuron, stored: Bytes, dialect: Dialect) -> nn.Module:
    """What takes the bytes of positions to those of words.

    Args:
        transfer: the table.
        neuron: neurons without bias, with one gain, that read it.
        stored: how their words are stored.
        dialect: the runtime's.
    """
    is_exact = float(neuron.gain) == 1 and neuron.code.offset % 2 == 0  # ties are broken with the zero point in the sum
    gate = gate_of(transfer) if is_exact else None
    if gate is None:
        return ByteTable(neuron(transfer.table), stored, flat=dialect.flat_tables)
    return GatedWords(gate, position_bytes(transfer), FireWords(stored, clips_bytes=dialect.clips_bytes, rounds=False))


class ByteTable(nn.Module):
    """k = table[i] of positions' bytes i; those above the last position have its word.

    Buffers:
        table: bytes [256].
    """

    table: Tensor

    def __init__(self, words: Tensor, stored: Bytes, *, flat: bool) -> None:
        """Stores the words.

        Args:
            words: [K ≤ 256], of the grid's positions.
            stored: how words are stored.
            flat: whether tables are read by vectors of indices.
        """
        super().__init__()
        self.flat = flat
        whole = torch.cat([words, words[-1:].expand(POTENTIALS - len(words))]).to(torch.int64)
        self.register_buffer("table", (whole + int(stored.zero_point)).to(stored.dtype))

    def forward(self, positions: Tensor) -> Tensor:
        """Bytes of the shape of position bytes."""
        return looked_up(self.table, positions.to(torch.int32), flat=self.flat)


class GatedWords(nn.Module):
    """Fires k·s·m of positions k and their gates s = rne(255·g(a·k)), a product of bytes.

    Buffers:
        inner: float32, a, or 255·a where the gate is a sum of bytes.
        multiplier: float32, m.
    """

    inner: Tensor
    multiplier: Tensor

    def __init__(self, gate: Gate, read: Bytes, fire: FireWords) -> None:
        """Stores the numbers.

        Args:
            gate: what a table is a product with.
            read: how positions are stored.
            fire: what fires.
        """
        super().__init__()
        self.read, self.fire, self.is_linear = read, fire, gate.name == "hard_sigmoid"
        numbers = {
            "inner": gate.inner * GATE_STEPS if self.is_linear else gate.inner,
            "multiplier": gate.multiplier,
            "finest": 1.0 / GATE_STEPS,
            "one": 1.0,
            "middle": 0.5,
        }
        for name, number in numbers.items():
            self.register_buffer(name, torch.tensor(number, dtype=torch.float32))
        self.register_buffer("none", torch.tensor(0, dtype=torch.uint8))
        self.register_buffer("whole", torch.tensor(LARGEST_BYTE, dtype=torch.uint8))

    def forward(self, positions: Tensor) -> Tensor:
        """Bytes of the shape of position bytes."""
        gates = self._gates(self._number(positions, self.inner, self.read.zero_point))
        product = self._number(positions, self.multiplier, self.read.zero_point) * self._number(gates)
        fired: Tensor = self.fire(product)
        return fired

    def _gates(self, scaled: Tensor) -> Tensor:
        """S as bytes."""
        if self.is_linear:
            values, step = scaled + self._number(self.get_buffer("whole"), self.get_buffer("middle")), "one"
        else:
            values, step = torch.sigmoid(scaled), "finest"
        return onnx_node(
            "QuantizeLinear", (values, self.get_buffer(step), self.get_buffer("none")), values, torch.uint8
        )

    def _number(self, stored: Tensor, scale: Tensor | None = None, zero_point: Tensor | None = None) -> Tensor:
        """Bytes as floating point numbers."""
        scale = self.get_buffer("one") if scale is None else scale
        zero_point = self.get_buffer("none") if zero_point is None else zero_point
        return onnx_node("DequantizeLinear", (stored, scale, zero_point), stored, torch.float32)
