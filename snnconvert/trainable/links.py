"""Who reads whom in a spiking graph: which neurons a synapse reads, and who takes what its multiplier can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

_CARRIERS = frozenset({OpKind.LAYOUT, OpKind.MAX_POOL})
_TAKERS = (SpikingNeuron, LeakyTransfer, TableTransfer, ToReal)


@dataclass(frozen=True)
class Fold:
    """Where the channels of a synapse's current are when something reads it.

    Attributes:
        name: module that reads.
        axis: of its input.
        rank: its input's dimensions.
    """

    name: str
    axis: int
    rank: int


@dataclass
class Links:
    """What belongs together, by names of modules.

    Attributes:
        folds: of each synapse all who read its current, if each can take a factor per channel.
        readers: of neurons all who read their spikes, if each may take a factor: synapses, one-to-one ones too, and
            what reads a pool of these spikes alone.
        feeding: of each synapse the first neurons whose spikes it reads.
        inputs: neurons that fire on the network's own inputs.
    """

    folds: dict[str, tuple[Fold, ...]] = field(default_factory=dict)
    readers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    feeding: dict[str, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)


def find_links(network: fx.GraphModule, trial: Sequence[Tensor]) -> Links:
    """Follows spikes from neurons to synapses, and currents from synapses to neurons.

    Args:
        network: the spiking graph.
        trial: the tensors of one call, for the shapes of its values.
    """
    shapes = _Shapes(network)
    with torch.no_grad():
        shapes.run(*trial)
    links = Links()
    for node in network.graph.nodes:
        module = _module(node)
        if isinstance(module, SpikingNeuron):
            if _reads_input(node):
                links.inputs.add(str(node.target))
            found = _spike_readers(node)
            for reader in _first_synapses(node):
                links.feeding.setdefault(reader, str(node.target))
            if found:
                links.readers[str(node.target)] = tuple(found)
        elif isinstance(module, Synapse):
            folds = _takers(node, module.channel_axis(len(shapes.found[node])), shapes)
            if folds is not None:
                links.folds[str(node.target)] = tuple(folds)
    return links


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shapes of its tensors, and its sizes."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False
        self.found: dict[fx.Node, tuple[int, ...]] = {}
        self.sizes: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n] = tuple(value.shape)
        elif isinstance(value, int):
            self.sizes[n] = value
        return value


def _module(node: fx.Node) -> object:
    if node.op != "call_module":
        return None
    return node.graph.owning_module.get_submodule(str(node.target))  # type: ignore[union-attr]


def _carries(node: fx.Node) -> bool:
    """Whether a node moves values of one tensor about, or keeps the largest of them."""
    return node.op == "call_function" and kind_of(node) in _CARRIERS and len(_values_read(node)) == 1


def _reads_input(node: fx.Node) -> bool:
    """Whether a node reads nothing but an input of the network, moved about or not."""
    return all(
        source.op == "placeholder" or (_carries(source) and _reads_input(source)) for source in _values_read(node)
    )


def _values_read(node: fx.Node) -> list[fx.Node]:
    """What a node reads beside sizes."""
    return [
        source for source in node.all_input_nodes if source.op != "call_function" or kind_of(source) is not OpKind.SHAPE
    ]


def _spike_readers(node: fx.Node) -> list[str] | None:
    """All who read spikes; None if one can't take a factor, or if spikes of other neurons are among them."""
    found: list[str] = []
    for user in node.users:
        behind = _readers_behind(user)
        if behind is None:
            return None
        found += behind
    return found


def _readers_behind(user: fx.Node) -> list[str] | None:
    module = _module(user)
    if isinstance(module, (Synapse, IntegerScale)):
        return [str(user.target)]
    if isinstance(module, SumPool):
        return _pool_readers(user)
    return _spike_readers(user) if _carries(user) else None


def _pool_readers(node: fx.Node) -> list[str] | None:
    """All who read the currents of a pool; None if one of them can't take a factor."""
    found: list[str] = []
    for user in node.users:
        behind = [str(user.target)] if isinstance(_module(user), _TAKERS) else None
        behind = _pool_readers(user) if _carries(user) else behind
        if behind is None:
            return None
        found += behind
    return found


def _first_synapses(node: fx.Node) -> list[str]:
    """All synapses that read spikes, beside whatever else does."""
    found: list[str] = []
    for user in node.users:
        if isinstance(_module(user), Synapse):
            found.append(str(user.target))
        elif user.op == "call_function":
            found += _first_synapses(user)
    return found


def _takers(node: fx.Node, axis: int, shapes: _Shapes) -> list[Fold] | None:
    """All who read a current whose channels are on an axis; None if one of them can't take a factor per channel."""
    found: list[Fold] = []
    rank = len(shapes.found[node])
    for user in node.users:
        module = _module(user)
        if isinstance(module, _TAKERS):
            found.append(Fold(str(user.target), axis, rank))
            continue
        after = _axis_behind(user, node, axis, shapes)
        behind = None if after is None else _takers(user, after, shapes)
        if behind is None:
            return None
        found += behind
    return found or None


def _axis_behind(user: fx.Node, node: fx.Node, axis: int, shapes: _Shapes) -> int | None:
    """The axis of the channels behind an operation; None where they aren't all on one."""
    module = _module(user)
    if isinstance(module, SumPool):
        dims = module.geometry.dims
        return axis if all(dim % len(shapes.found[node]) > axis for dim in dims) else None
    if not _carries(user) or user not in shapes.found:
        return None
    if kind_of(user) is OpKind.MAX_POOL:
        return axis
    return _axis_of_marks(user, node, axis, shapes)


def _axis_of_marks(user: fx.Node, node: fx.Node, axis: int, shapes: _Shapes) -> int | None:
    """Where channels that carry their numbers end up."""
    shape = shapes.found[node]
    marks = torch.arange(shape[axis]).view([-1 if dim == axis else 1 for dim in range(len(shape))]).expand(shape)
    args, kwargs = fx.map_arg(
        (user.args, user.kwargs), lambda arg: marks.contiguous() if arg is node else shapes.sizes.get(arg)
    )
    try:
        moved = user.target(*args, **kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, IndexError):
        return None
    for candidate, size in enumerate(moved.shape):
        if size == shape[axis]:
            expected = torch.arange(size).view([-1 if dim == candidate else 1 for dim in range(moved.dim())])
            if torch.equal(moved, expected.expand_as(moved)):
                return candidate
    return None
