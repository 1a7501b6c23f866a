"""Early firing: neurons that read a current through moves fire before the moves, so that bytes are moved, not floats.

fire(move(u)) = move(fire(u)), as neurons without a bias treat every value alike.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.transfer import TableTransfer

aten = torch.ops.aten
MOVES = frozenset(
    {
        aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
        aten.unflatten.int, aten.permute.default, aten.transpose.int, aten.t.default, aten.unsqueeze.default,
        aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.slice.Tensor, aten.select.int,
        aten.narrow.default, aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
        aten.movedim.int, aten.movedim.intlist, aten.contiguous.default, aten.clone.default, operator.getitem,
    }
)  # fmt: skip


@dataclass(frozen=True)
class EarlyFiring:
    """Neurons that fire at a node which they read through moves.

    Attributes:
        neurons: all that read the node, with one code and one largest word.
        gain: float32, scalar, or [C] of the node's last dimension.
    """

    neurons: tuple[fx.Node, ...]
    gain: Tensor


def early_firings(network: fx.GraphModule, signature: Signature) -> dict[fx.Node, EarlyFiring]:
    """Finds the nodes that only neurons read, and these through moves that leave out nothing.

    Args:
        network: a packed spiking graph, on the CPU.
        signature: how it is called; where there are such neurons, it is run once on zeros.
    """
    modules = {node: network.get_submodule(str(node.target)) for node in network.graph.nodes if _is_call(node)}
    candidates = {
        node: readers for node in network.graph.nodes if (readers := _readers_behind_moves(node, modules)) is not None
    }
    if not candidates:
        return {}
    recorder = _PlaceRecorder(network, candidates)
    with torch.no_grad():
        recorder.run(*(spec.trial(1) for spec in signature.tensors))
    firings: dict[fx.Node, EarlyFiring] = {}
    for node, readers in candidates.items():
        if node not in recorder.widths or sum(recorder.counts[reader] for reader in readers) < recorder.counts[node]:
            continue
        gain = _gain(readers, recorder.widths[node], recorder.places, modules)
        if gain is not None:
            firings[node] = EarlyFiring(tuple(readers), gain)
    return firings


def _is_call(node: fx.Node) -> bool:
    return node.op == "call_module"


def _readers_behind_moves(node: fx.Node, modules: Mapping[fx.Node, nn.Module]) -> list[fx.Node] | None:
    """The neurons that read a node, at least one of them behind a move; None if anything else does, or they differ."""
    if node.target in MOVES or node.op not in ("call_function", "call_module"):
        return None
    if isinstance(modules.get(node), (SpikingNeuron, TableTransfer)):
        return None
    if not any(user.target in MOVES for user in node.users):
        return None
    readers = _readers(node, modules)
    if not readers:
        return None
    layers = [modules[reader] for reader in readers]
    stored = {(layer.code.offset, layer.ceiling) for layer in layers if isinstance(layer, SpikingNeuron)}
    return readers if len(stored) == 1 else None


def _readers(node: fx.Node, modules: Mapping[fx.Node, nn.Module]) -> list[fx.Node] | None:
    found: list[fx.Node] = []
    for user in node.users:
        if user.op == "call_function" and kind_of(user) is OpKind.SHAPE:
            continue
        if user.target in MOVES and user.args[0] is node:
            behind = _readers(user, modules)
            if behind is None:
                return None
            found.extend(behind)
        elif _fires_alike(modules.get(user)):
            found.append(user)
        else:
            return None
    return found


def _fires_alike(module: nn.Module | None) -> bool:
    """Whether a module is packed neurons that treat every value alike."""
    if not isinstance(module, SpikingNeuron) or not isinstance(module.code, PackedCode):
        return False
    return module.bias is None and module.gain.numel() == 1


def _gain(
    readers: Sequence[fx.Node], width: int, places: Mapping[fx.Node, Tensor], modules: Mapping[fx.Node, nn.Module]
) -> Tensor | None:
    """The gains of neurons, one where they have one, else by place; None if neurons of two gains share a place."""
    gains = {reader: modules[reader].get_buffer("gain").reshape(()) for reader in readers}
    first = gains[readers[0]]
    if all(bool(gain == first) for gain in gains.values()):
        return first
    found = torch.full((width,), torch.nan)
    for reader, gain in gains.items():
        own = found[places[reader]]
        if not bool((own.isnan() | (own == gain)).all()):
            return None
        found[places[reader]] = gain
    return None if bool(found.isnan().any()) else found


class _PlaceRecorder(fx.Interpreter):
    """Runs a network in which nodes return the index of the last dimension, and notes which of them neurons read."""

    def __init__(self, network: fx.GraphModule, candidates: Mapping[fx.Node, Sequence[fx.Node]]) -> None:
        super().__init__(network)
        self._candidates = candidates
        self._readers = {reader for readers in candidates.values() for reader in readers}
        self.places: dict[fx.Node, Tensor] = {}
        self.counts: dict[fx.Node, int] = {}
        self.widths: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self._readers:
            read = self.env[n.args[0]]  # type: ignore[index]
            self.places[n], self.counts[n] = read.unique().long(), read.numel()
        result = super().run_node(n)
        if n not in self._candidates or not isinstance(result, Tensor):
            return result
        self.counts[n], self.widths[n] = result.numel(), result.shape[-1] if result.dim() else 1
        return torch.arange(self.widths[n], dtype=result.dtype).expand(result.shape)
