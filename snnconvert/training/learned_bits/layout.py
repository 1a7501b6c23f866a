"""Which layers' widths are learned, and how much each counts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from snnconvert.allocation.groups import joined_families
from snnconvert.config import ConversionConfig
from snnconvert.convert.layer_sizes import layer_sizes
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.convert.shapes import hinted_shape, traced_batch
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.preparation import PreparedConversion

_LAYERS = frozenset({OpKind.SYNAPSE, OpKind.PRODUCT})


@dataclass(frozen=True)
class SpikeGroup:
    """Families of sites that share b_s and T, since one layer (or layers of one name) reads them.

    Attributes:
        families: the families.
        readers: the layers that read them.
        bits: b_s to start at.
        T: time steps to start at.
        learned: whether they change; if not they are as configured and in no mean.
        values: how many values the readers read, for one sample.
        macs: their multiply-accumulates.
    """

    families: frozenset[int]
    readers: tuple[SynapsePlan, ...]
    bits: int
    T: int
    learned: bool
    values: int
    macs: int


@dataclass(frozen=True)
class WeightGroup:
    """A layer, or several of one name, whose weights share b_w.

    Attributes:
        layer: its name.
        items: its synapses.
        bits: b_w to start at.
        learned: whether it changes.
        weights: how many it has.
        macs: its multiply-accumulates.
    """

    layer: str
    items: tuple[SynapsePlan, ...]
    bits: int
    learned: bool
    weights: int
    macs: int


@dataclass(frozen=True)
class Layout:
    """All groups of a plan, and the group of spikes of each family."""

    spikes: tuple[SpikeGroup, ...]
    weights: tuple[WeightGroup, ...]
    group_of: Mapping[int, int]


def find_layout(prepared: PreparedConversion) -> Layout:
    """The groups of a prepared network: first and last layers and what overrides name stay as configured.

    Raises:
        ConfigurationError: if nothing is left whose widths could be learned.
    """
    plan, outer = prepared.plan, _outer_layers(prepared.graph.graph, prepared.plan)
    roots = joined_families(plan)
    order = {root: index for index, root in enumerate(sorted(set(roots.values())))}
    group_of = {family: order[root] for family, root in roots.items()}
    readers: defaultdict[int, list[SynapsePlan]] = defaultdict(list)
    named: defaultdict[str, list[SynapsePlan]] = defaultdict(list)
    for item in plan.synapses:
        for group in {group_of[family] for family in (item.family, item.held_family) if family is not None}:
            readers[group].append(item)
        if item.held is None:
            named[item.layer].append(item)
    spikes = tuple(_spike_group(prepared, group_of, index, readers[index], outer) for index in range(len(order)))
    weights = tuple(_weight_group(prepared, items, outer) for items in named.values())
    if not any(group.learned for group in spikes) and not any(group.learned for group in weights):
        raise ConfigurationError(
            "no widths to learn: every layer is the first, the last or told its widths, or its neurons are neither "
            'packed nor "if"'
        )
    return Layout(spikes, weights, group_of)


def _outer_layers(graph: fx.Graph, plan: Plan) -> set[str]:
    """Nodes of the synapses that read the input or have no layer behind them."""
    before: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in before or kind_of(node) in _LAYERS:
            before.update(node.all_input_nodes)
    inner = {node.name for node in before}
    return {item.node for item in plan.synapses if item.reads_input or item.node not in inner}


def _spike_group(
    prepared: PreparedConversion,
    group_of: Mapping[int, int],
    index: int,
    readers: list[SynapsePlan],
    outer: set[str],
) -> SpikeGroup:
    sites = [site for site in prepared.plan.sites if group_of[site.family] == index]
    fixed = any(site.origin == "input" or site.grid is not None or not _is_learnable(site.code) for site in sites)
    told = any(_tells_spikes(prepared.config, item.layer) for item in readers)
    return SpikeGroup(
        families=frozenset(site.family for site in sites),
        readers=tuple(readers),
        bits=max(site.bits for site in sites),
        T=max(site.T for site in sites),
        learned=not fixed and not told and any(item.node not in outer for item in readers),
        values=sum(_values_read(prepared, item, group_of, index) for item in readers),
        macs=sum(item.macs for item in readers),
    )


def _is_learnable(code: object) -> bool:
    if isinstance(code, IntegrateAndFireCode):
        return code.reset == "soft"
    return isinstance(code, PackedCode)


def _tells_spikes(config: ConversionConfig, layer: str) -> bool:
    override = config.override_for(layer)
    return (override.bits, override.T, override.neuron) != (None, None, None)


def _values_read(prepared: PreparedConversion, item: SynapsePlan, group_of: Mapping[int, int], index: int) -> int:
    nodes, batch = {node.name: node for node in prepared.graph.graph.nodes}, traced_batch(prepared.graph.graph)
    sources = [(item.source, item.family)]
    if item.held is not None and item.held_family is not None:
        sources.append((item.held, item.held_family))
    return sum(math.prod(hinted_shape(nodes[node])) // batch for node, family in sources if group_of[family] == index)


def _weight_group(prepared: PreparedConversion, items: list[SynapsePlan], outer: set[str]) -> WeightGroup:
    first, sizes = items[0], layer_sizes(prepared.graph, prepared.plan)
    told = prepared.config.override_for(first.layer).weight_bits is not None
    return WeightGroup(
        layer=first.layer,
        items=tuple(items),
        bits=first.weight_bits,
        learned=not told and not any(item.node in outer for item in items),
        weights=max(sizes[item.node].weights for item in items),
        macs=sum(item.macs for item in items),
    )
