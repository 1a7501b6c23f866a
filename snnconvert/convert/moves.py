"""Moves: what reads a value that was split, transposed or reshaped in between, and the gain that each place meets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.synapse import Synapse

aten = torch.ops.aten
MOVES_OF_ONE = frozenset(
    {
        aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
        aten.unflatten.int, aten.permute.default, aten.transpose.int, aten.t.default, aten.unsqueeze.default,
        aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.slice.Tensor, aten.select.int,
        aten.narrow.default, aten.movedim.int, aten.movedim.intlist, aten.contiguous.default, aten.clone.default,
    }
)  # fmt: skip
_MOVES_OF_PARTS = frozenset(
    {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int, operator.getitem}
)
MOVES = MOVES_OF_ONE | _MOVES_OF_PARTS


def readers_behind_moves(node: fx.Node, is_reader: Callable[[fx.Node], bool]) -> list[fx.Node]:
    """What reads a node through moves or directly; empty if nothing is moved, or anything else reads it.

    Args:
        node: any node.
        is_reader: what may read.
    """
    if node.target in MOVES or node.op not in ("call_function", "call_module"):
        return []
    if not any(user.target in MOVES for user in node.users):
        return []
    return _readers(node, is_reader) or []


def _readers(node: fx.Node, is_reader: Callable[[fx.Node], bool]) -> list[fx.Node] | None:
    found: list[fx.Node] = []
    for user in node.users:
        if user.op == "call_function" and kind_of(user) is OpKind.SHAPE:
            continue
        if user.target in MOVES and user.args[0] is node:
            behind = _readers(user, is_reader)
            if behind is None:
                return None
            found.extend(behind)
        elif is_reader(user):
            found.append(user)
        else:
            return None
    return found


def gains_of_places(
    network: fx.GraphModule, signature: Signature, readers: Mapping[fx.Node, Sequence[fx.Node]]
) -> dict[fx.Node, Tensor]:
    """The gain that each place of a node's last dimension meets: a scalar if all meet one, else [C].

    Nodes whose places meet two gains, or are left out, have none; nor have those whose width depends on the size of an
    input, unless all their places meet one.

    Args:
        network: a spiking graph.
        signature: how it is called; where there are readers, it is run once on zeros.
        readers: by node the modules that read it through moves, each with a scalar ``gain``.
    """
    if not readers:
        return {}
    recorder = _PlaceRecorder(network, readers)
    with torch.no_grad():
        device = next((tensor.device for tensor in network.buffers()), torch.device("cpu"))
        recorder.run(*(spec.trial(1).to(device) for spec in signature.tensors))
    found: dict[fx.Node, Tensor] = {}
    for node, each in readers.items():
        if node not in recorder.widths or sum(recorder.counts[reader] for reader in each) < recorder.counts[node]:
            continue
        gains = {reader: network.get_submodule(str(reader.target)).get_buffer("gain").reshape(()) for reader in each}
        gain = _gain(gains, recorder.widths[node], recorder.places)
        if gain is not None and (gain.dim() == 0 or signature.has_fixed_sizes or _has_features(node, network)):
            found[node] = gain
    return found


def _has_features(node: fx.Node, network: fx.GraphModule) -> bool:
    """Whether a node's last dimension is of features, as many for inputs of any size."""
    if node.op == "call_function":
        return node.target is aten.layer_norm.default
    module = network.get_submodule(str(node.target))
    if isinstance(module, ToReal):
        return _has_features(node.all_input_nodes[0], network)
    return isinstance(module, Synapse) and module.geometry is None


def _gain(gains: Mapping[fx.Node, Tensor], width: int, places: Mapping[fx.Node, Tensor]) -> Tensor | None:
    """The gains, one where they are one, else by place; None if two share a place."""
    first = next(iter(gains.values()))
    if all(bool(gain == first) for gain in gains.values()):
        return first
    found = torch.full((width,), torch.nan, device=first.device)
    for reader, gain in gains.items():
        own = found[places[reader]]
        if not bool((own.isnan() | (own == gain)).all()):
            return None
        found[places[reader]] = gain
    return None if bool(found.isnan().any()) else found


class _PlaceRecorder(fx.Interpreter):
    """Runs a network in which nodes return the index of the last dimension, and notes which of them are read."""

    def __init__(self, network: fx.GraphModule, readers: Mapping[fx.Node, Sequence[fx.Node]]) -> None:
        super().__init__(network)
        self._moved = readers
        self._readers = {reader for each in readers.values() for reader in each}
        self.places: dict[fx.Node, Tensor] = {}
        self.counts: dict[fx.Node, int] = {}
        self.widths: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self._readers:
            read = self.env[n.args[0]]  # type: ignore[index]
            self.places[n], self.counts[n] = read.unique().long(), read.numel()
        result = super().run_node(n)
        if n not in self._moved or not isinstance(result, Tensor):
            return result
        self.counts[n], self.widths[n] = result.numel(), result.shape[-1] if result.dim() else 1
        return torch.arange(self.widths[n], dtype=result.dtype, device=result.device).expand(result.shape)
