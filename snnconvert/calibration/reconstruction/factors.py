"""Which thresholds a block may learn: those of packed windows of less than 8 bits all of whose neurons it holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from torch import fx

from snnconvert.calibration.reconstruction.blocks import Block, source_of
from snnconvert.convert.plan import Plan, Site
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import MAX_WORD_BITS, PackedCode
from snnconvert.neurons.threshold import Threshold


def neurons_of_families(network: fx.GraphModule, plan: Plan) -> dict[int, list[fx.Node]]:
    """The nodes of the neurons of each family of sites whose threshold may be learned."""
    by_source = {source_of(node): node for node in network.graph.nodes if _neuron(network, node) is not None}
    families: defaultdict[int, list[Site]] = defaultdict(list)
    for site in plan.sites:
        families[site.family].append(site)
    free = {family: sites for family, sites in families.items() if all(map(_is_free, sites))}
    found = {
        family: [by_source[site.node] for site in sites if site.node in by_source] for family, sites in free.items()
    }
    return {family: nodes for family, nodes in found.items() if nodes and _is_narrow(network, nodes[0])}


def families_within(block: Block, neurons: Mapping[int, list[fx.Node]]) -> dict[int, list[fx.Node]]:
    """Those whose neurons are all in one block."""
    inside = set(block.nodes)
    return {family: nodes for family, nodes in neurons.items() if inside.issuperset(nodes)}


def rescaled(threshold: Threshold, factor: float, plan: Plan, family: int) -> Threshold:
    """A threshold times a learned factor; one a channel stays below the cap of its rectifier."""
    caps = [site.cap for site in plan.sites if site.family == family and site.cap is not None]
    if caps and threshold.channel_steps:
        factor = min(factor, max(min(caps) / (threshold.step * threshold.code.maximum), 1.0))
    return threshold.scaled(factor)


def _is_free(site: Site) -> bool:
    return site.origin not in ("input", "repeater") and site.grid is None


def _neuron(network: fx.GraphModule, node: fx.Node) -> SpikingNeuron | None:
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, SpikingNeuron) else None


def _is_narrow(network: fx.GraphModule, node: fx.Node) -> bool:
    neuron = _neuron(network, node)
    assert neuron is not None
    code = neuron.code
    return isinstance(code, PackedCode) and code.word_bits < MAX_WORD_BITS and math.isfinite(code.maximum)
