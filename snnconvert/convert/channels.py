"""Channels of spikes: which sites can have a threshold per channel, and where each reader sees its channels.

Spikes of steps Δ_c mean Δ_c·z. A synapse folds Δ_c into the weights of its input channel c, sums and pools of
currents count channel c in its own unit; both need the channels apart, on the axis they work on. Layouts may move
the channels meanwhile: an index tensor that goes the spikes' way tells where each one went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from snnconvert.convert.flow import Carrier, Flow, infer_flows, pooled_axis
from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.ops import OpKind, affine_source, input_channel_axis, is_tensor, kind_of
from snnconvert.convert.plan import Plan, Site, SynapsePlan
from snnconvert.convert.shapes import hinted_shape, is_fixed
from snnconvert.convert.units import FloatArray, IntArray
from snnconvert.neurons.threshold import Threshold

_MOVING = frozenset({OpKind.LAYOUT, OpKind.CONCAT, OpKind.MAX_POOL})
_CURRENT_AXES = frozenset({OpKind.ADD, OpKind.CONCAT, OpKind.MAX_POOL})


@dataclass(frozen=True)
class ChannelMap:
    """Where a value's channels are.

    Attributes:
        axis: the axis along which they differ.
        index: int64 [size], the family's channel at each place of that axis; -1 where only padding is.
    """

    axis: int
    index: IntArray


@dataclass(frozen=True)
class SpikeChannels:
    """What :func:`spike_channels` finds.

    Attributes:
        sites: the sites of each family whose threshold can be per channel, in the order of the family's channels.
        maps: channels of each node that carries spikes of these families, by node name.
        shared: why the other sites keep one threshold for all channels, by layer name.
    """

    sites: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    maps: Mapping[str, ChannelMap] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)

    def axes(self) -> dict[str, int]:
        """The axis of the channels of each site, by node name."""
        return {node: self.maps[node].axis for nodes in self.sites.values() for node in nodes}

    def notes(self) -> tuple[str, ...]:
        """For the report: how many sites have thresholds per channel, and what keeps the others; () without any."""
        separate = sum(map(len, self.sites.values()))
        total = separate + len(self.shared)
        if total == 0:
            return ()
        counts = Counter(self.shared.values())
        others = "; ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        ending = f", not where {others}" if others else ""
        return (f"thresholds per channel at {separate} of {total} sites{ending}",)


class Steps:
    """The step of spikes wherever they are read, and what neurons of shifted channels subtract.

    Args:
        thresholds: threshold of each family of sites.
        channels: where the channels of spikes are.
    """

    def __init__(self, thresholds: Mapping[int, Threshold], channels: SpikeChannels) -> None:
        self._thresholds, self._maps = thresholds, channels.maps

    def at(self, node: str, family: int) -> FloatArray:
        """Δ at a node that carries a family's spikes: [C] along :meth:`axis`, or [1] where one holds for all."""
        threshold = self._thresholds[family]
        if not threshold.channel_steps:
            return np.array([threshold.step])
        steps = np.array([*threshold.channel_steps, threshold.step])
        return steps[self._maps[node].index]

    def shifts(self, node: str, family: int) -> FloatArray | None:
        """s_c [C] along :meth:`axis`, where spikes mean s_c + Δ_c·z; None where they mean Δ·z."""
        shifts = self._thresholds[family].channel_shifts
        return np.array([*shifts, 0.0])[self._maps[node].index] if shifts else None

    def axis(self, node: str, family: int) -> int | None:
        """The axis of the channels of :meth:`at`, None where one step holds for all."""
        return self._maps[node].axis if self._thresholds[family].channel_steps else None


def spike_channels(graph_module: fx.GraphModule, plan: Plan) -> SpikeChannels:
    """Finds the sites whose readers all see the channels apart.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
    """
    survey = _Survey(graph_module, plan)
    families: dict[int, list[Site]] = {}
    for site in plan.sites:
        families.setdefault(site.family, []).append(site)
    sites: dict[int, tuple[str, ...]] = {}
    maps: dict[str, ChannelMap] = {}
    shared: dict[str, str] = {}
    for family, members in families.items():
        found = survey.channels_of(members)
        if isinstance(found, str):
            shared.update({site.layer: found for site in members if site.origin != "repeater"})
        else:
            sites[family] = tuple(site.node for site in _roots(members))
            maps.update(found)
    return SpikeChannels(sites, maps, shared)


class _SharedError(Exception):
    """Why a site keeps one threshold for all channels."""


class _Survey:
    """Follows sites' channels to all that reads their spikes."""

    def __init__(self, graph_module: fx.GraphModule, plan: Plan) -> None:
        self._graph_module, self._nodes = graph_module, {node.name: node for node in graph_module.graph.nodes}
        self._sites = {site.node: site for site in plan.sites}
        self._synapses = plan.synapses
        activations = {site.node: site.family for site in plan.sites if site.origin == "activation"}
        synapses = frozenset(item.node for item in plan.synapses)
        self._flows: dict[str, Flow] = infer_flows(graph_module.graph, activations, synapses)
        self._planned = synapses

    def channels_of(self, members: Sequence[Site]) -> dict[str, ChannelMap] | str:
        """The channels of all nodes that carry a family's spikes, or why they can't be told apart."""
        try:
            roots = _checked_roots(members)
            candidates = [self._candidates(root) for root in roots]
        except _SharedError as error:
            return str(error)
        axes = [axis for axis in candidates[0] if all(axis in others for others in candidates)]
        results = [self._attempt(roots, members, axis) for axis in axes]
        found = [result for result in results if not isinstance(result, str)]
        return found[0] if found else (results or ["values have no channels"])[0]

    def _attempt(self, roots: Sequence[Site], members: Sequence[Site], axis: int) -> dict[str, ChannelMap] | str:
        try:
            return self._followed(roots, members, axis)
        except _SharedError as error:
            return str(error)

    def _candidates(self, site: Site) -> list[int]:
        """Axes the channels of a site may have: those of the current its neurons read, else the usual ones."""
        node = self._nodes[site.node]
        if site.affine is not None:
            affine = self._nodes[site.affine]
            source = affine_source(affine)
            assert source is not None
            fixed = [1] if kind_of(affine) is OpKind.AFFINE else None
        else:
            source, fixed = (node.all_input_nodes[0] if site.origin == "activation" else node), None
        rank, flow = len(hinted_shape(node)), self._flows[source.name]
        if flow.carrier is Carrier.SPIKES:
            raise _SharedError("neurons read other neurons' spikes")
        if flow.carrier is Carrier.CURRENT:
            fixed = [flow.axis]
        axes = fixed or ([2, 1] if rank == 3 else [1, rank - 1])
        return [axis for axis in dict.fromkeys(axes) if 1 <= axis < rank and self._has_channels(node, axis)]

    @staticmethod
    def _has_channels(node: fx.Node, axis: int) -> bool:
        return is_fixed(node, [axis]) and hinted_shape(node)[axis] > 1

    def _followed(self, roots: Sequence[Site], members: Sequence[Site], axis: int) -> dict[str, ChannelMap]:
        carriers, root = self._moved(roots, members, axis), roots[0]
        names = [node.name for node in self._graph_module.graph.nodes if self._carries(node.name, root)] or [root.node]
        repeaters = [site.node for site in members if site.origin == "repeater"]
        if any(name not in carriers for name in [*names, *repeaters]):
            raise _SharedError("a layout moves spikes to places that are computed")
        maps = {name: _map_of(carriers[name]) for name in [*names, *repeaters] if isinstance(carriers[name], Tensor)}
        for plan in self._synapses:
            if root.family in (plan.family, plan.held_family):
                self._check_synapse(plan, maps)
        if root.origin == "activation":
            for name in names:
                for user in self._nodes[name].users:
                    if user.name not in names and name in maps:
                        self._check_reader(maps[name], user)
        return maps

    def _carries(self, name: str, root: Site) -> bool:
        flow = self._flows[name]
        return flow.carrier is Carrier.SPIKES and flow.family == root.family

    def _moved(self, roots: Sequence[Site], members: Sequence[Site], axis: int) -> dict[str, Any]:
        """Channel numbers, from 1 on, wherever the spikes of sites get; 0 stands for padding."""
        found: dict[str, Any] = {}
        root, first = roots[0], 1
        for site in roots:
            shape = hinted_shape(self._nodes[site.node])
            view = [-1 if dim == axis else 1 for dim in range(len(shape))]
            numbers = torch.arange(first, first + shape[axis], dtype=torch.float32)
            found[site.node] = numbers.view(view).expand(shape).contiguous()
            first += shape[axis]
        if root.origin != "activation":
            return found
        repeats = any(site.origin == "repeater" for site in members)
        for node in self._graph_module.graph.nodes:
            follows = self._carries(node.name, root) or repeats
            if node.name not in found and follows and kind_of(node) in _MOVING and self._is_moved(node, found):
                found[node.name] = self._run(node, found)
        return found

    @staticmethod
    def _is_moved(node: fx.Node, found: Mapping[str, Any]) -> bool:
        sources = node.args[0] if isinstance(node.args[0], (list, tuple)) else node.args[:1]
        return all(isinstance(source, fx.Node) and source.name in found for source in sources)

    def _run(self, node: fx.Node, found: Mapping[str, Any]) -> Any:
        def value(argument: fx.Node) -> Any:
            if argument.name in found:
                return found[argument.name]
            if argument.op == "get_attr":
                return constant_of(self._graph_module, argument)
            if not is_tensor(argument):
                given = argument.meta["val"]
                return int(given) if isinstance(given, int) else int(str(given.node.hint))
            raise _SharedError("a layout moves spikes to places that are computed")

        args, kwargs = fx.map_arg((node.args, node.kwargs), value)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _check_synapse(self, plan: SynapsePlan, maps: Mapping[str, ChannelMap]) -> None:
        if plan.held is not None:
            raise _SharedError("spikes meet spikes in a product")
        node = self._nodes[plan.node]
        axis = input_channel_axis(node, len(hinted_shape(self._nodes[plan.source])))
        if plan.source not in maps or maps[plan.source].axis != axis:
            raise _SharedError("a layer reads the channels on another axis")

    def _check_reader(self, channels: ChannelMap, user: fx.Node) -> None:
        if not is_tensor(user) or user.name in self._planned:
            return
        if any(taker in self._sites and self._sites[taker].origin == "activation" for taker in _takers(user)):
            raise _SharedError("neurons read other neurons' spikes")
        flow = self._flows[user.name]
        if flow.carrier is Carrier.CURRENT:
            axis = flow.axis if kind_of(user) in _CURRENT_AXES else pooled_axis(user)
            if channels.axis != axis:
                raise _SharedError("a sum or pool works on another axis")


def _takers(user: fx.Node) -> Iterator[str]:
    """A reader, or the neurons that take its scale and shift over."""
    yield user.name
    if affine_source(user) is not None:
        yield from (taker.name for taker in user.users)


def _roots(members: Sequence[Site]) -> list[Site]:
    return [site for site in members if site.origin != "repeater"]


def _checked_roots(members: Sequence[Site]) -> list[Site]:
    roots = _roots(members)
    if len(roots) > 1 and any(root.origin != "activation" for root in roots):
        raise _SharedError("spikes of several kinds of sites meet in one tensor")
    if roots[0].origin == "input":
        raise _SharedError("neurons encode the input")
    if any(root.grid is not None for root in roots):
        raise _SharedError("the network's own grid is kept")
    return roots


def _map_of(numbers: Tensor) -> ChannelMap:
    """The one axis along which channel numbers differ."""
    for axis in dict.fromkeys([1, *reversed(range(numbers.dim()))]):
        if axis >= numbers.dim():
            continue
        rows = numbers.movedim(axis, 0).reshape(numbers.shape[axis], -1)
        highest = rows.amax(1)
        lowest = torch.where(rows == 0, torch.inf, rows).amin(1)
        if bool(((lowest == highest) | (highest == 0)).all()):
            return ChannelMap(axis, highest.long().numpy() - 1)
    raise _SharedError("a layout merges its channels with other axes")
