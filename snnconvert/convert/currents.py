"""Which currents meet in which sums: sets up and solves the unit problem of a planned graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from snnconvert.convert.aligned_sums import common_unit
from snnconvert.convert.channels import SpikeChannels, Steps
from snnconvert.convert.flow import Carrier, Flow, average_pool_divisor, sliced_channels
from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.ops import TRANSPOSED, OpKind, groups_of, kind_of
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.convert.shapes import hinted_shape, most_terms
from snnconvert.convert.units import FloatArray, IntArray, Source, UnitProblem
from snnconvert.convert.weights import countable_scale, natural_scale, quantize
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.synapse import BIAS_RESERVE, FLOAT32_EXACT, accumulator_bound, outputs_first
from snnconvert.neurons.tabulation import FunctionTable
from snnconvert.neurons.threshold import Threshold

_WORTH_COARSENING = 1.5
_ROUNDING_MARGIN = 1.005
_SIGNIFICAND_BITS = 24


@dataclass
class Currents:
    """The solved problem: where each integer current of the graph gets its unit.

    Attributes:
        synapses: source of each synapse, by node name.
        pools: source of each average pool that carries current, by node name.
        scales: source of the spikes that join a sum, by (node of the sum, position among its operands).
        units: float64 [C] unit of each node that carries current, by node name.
        problem: the problem itself, to check true bounds against.
    """

    synapses: dict[str, Source]
    pools: dict[str, Source]
    scales: dict[tuple[str, int], Source]
    units: dict[str, FloatArray]
    problem: UnitProblem


def solve_currents(
    graph_module: fx.GraphModule,
    plan: Plan,
    flows: Mapping[str, Flow],
    thresholds: Mapping[int, Threshold],
    channels: SpikeChannels,
    tables: Mapping[str, FunctionTable],
    widths: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
) -> Currents:
    """Finds units and multipliers for every current of the graph.

    Args:
        graph_module: the canonical graph.
        plan: its plan.
        flows: carriers of its nodes.
        thresholds: threshold of each family of sites.
        channels: where spikes of thresholds per channel have their channels.
        tables: of the sites that fire on functions, by node name.
        widths: weight bits of each output channel [O] of the synapses that don't have the plan's, by node name.
        scales: of synapses whose scales aren't to be searched; see :func:`~snnconvert.convert.insert.insert_neurons`.
    """
    builder = _Builder(graph_module, plan, flows, thresholds, channels, tables, widths, scales)
    builder.build()
    return builder.solve()


def folded_parameters(
    graph_module: fx.GraphModule, node: fx.Node, steps: float | FloatArray, shifts: FloatArray | None = None
) -> tuple[Tensor, Tensor]:
    """A synapse's weight W[o, i]·Δ_i in units of its input's steps, float32 [O, ...], and its bias b_o + Σ W·s [O].

    Args:
        graph_module: the graph.
        node: the synapse.
        steps: Δ of its input, one for all or one for each input channel [I].
        shifts: s of each input channel [I], whose words mean s_i + Δ_i·z; the synapse pads nothing then.
    """
    weight = constant_of(graph_module, node.args[1])
    assert weight is not None
    bias = constant_of(graph_module, node.args[2]) if len(node.args) > 2 else None
    if node.target in TRANSPOSED:
        weight = outputs_first(weight, groups_of(node))
    scale = steps_of_inputs(node, weight, steps)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return weight * scale, bias if shifts is None else bias + current_of_constants(node, weight, shifts).to(bias)


def current_of_constants(node: fx.Node, weight: Tensor, values: FloatArray) -> Tensor:
    """Σ_i Σ_k W[o, i, k]·s_i, float64 [O]: what a synapse without padding gives for inputs that are constant.

    Args:
        node: the synapse.
        weight: its weight, outputs first.
        values: s of each input channel [I].
    """
    met = met_by_weights(torch.from_numpy(values).to(weight.device), weight, groups_of(node))
    return (weight.double() * met).flatten(1).sum(1)


def steps_of_inputs(node: fx.Node, weight: Tensor, steps: float | FloatArray) -> Tensor:
    """Δ_i of what each of a synapse's weights [O, I, ...] reads, a scalar or [O, I, 1, ...].

    Args:
        node: the synapse.
        weight: its weight, outputs first.
        steps: Δ of its input, one for all or one for each input channel.
    """
    scale = torch.as_tensor(steps).to(weight)
    if scale.numel() == 1:
        return scale
    return met_by_weights(scale, weight, groups_of(node))


def met_by_weights(values: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Values of input channels [I] as the weights [O, I/groups, ...] meet them, [O, I/groups, 1, ...]."""
    per_output = values.view(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
    return per_output.view(*per_output.shape, *[1] * (weight.dim() - 2))


class _Builder:
    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        flows: Mapping[str, Flow],
        thresholds: Mapping[int, Threshold],
        channels: SpikeChannels,
        tables: Mapping[str, FunctionTable],
        widths: Mapping[str, Tensor],
        scales: Mapping[str, Tensor],
    ) -> None:
        self.graph_module, self.flows, self.thresholds = graph_module, flows, thresholds
        self.tables, self.widths, self.scales = tables, widths, scales
        self.steps = Steps(thresholds, channels)
        self.plans = {item.node: item for item in plan.synapses}
        self.sites = {site.node: site for site in plan.sites}
        self.problem = UnitProblem()
        self.result = Currents({}, {}, {}, {}, self.problem)
        self.channels: dict[str, IntArray] = {}

    def build(self) -> None:
        for node in self.graph_module.graph.nodes:
            if self.flows[node.name].carrier is Carrier.CURRENT:
                self.channels[node.name] = self._channels(node)
            if node.name in self.sites:
                self._add_reader(node)

    def solve(self) -> Currents:
        self._count_paths()
        self.problem.solve()
        units = np.zeros(sum(source.size for source in self.problem.sources))
        for source in self.problem.sources:
            units[source.channels] = source.unit
        self.result.units.update({name: units[channels] for name, channels in self.channels.items()})
        return self.result

    def _count_paths(self) -> None:
        """How often each source's current enters one sum: the paths from it to any node of currents."""
        origins = {**self.result.synapses, **self.result.pools}
        sums = _Sums([node for node in self.graph_module.graph.nodes if node.name in self.channels], set(origins))
        for name, source in origins.items():
            source.paths = sums.most_paths(name)
        for (name, _), source in self.result.scales.items():
            source.paths = sums.most_paths(name)

    def _channels(self, node: fx.Node) -> IntArray:
        if node.name in self.plans:
            plan = self.plans[node.name]
            source = (self._synapse_source if plan.held is None else self._product_source)(node, plan)
            self.result.synapses[node.name] = source
            return source.channels
        kind = kind_of(node)
        if kind is OpKind.AVERAGE_POOL:
            source = self._pool_source(node)
            self.result.pools[node.name] = source
            return source.channels
        operands = operands_of(node)
        parts = [self._operand_channels(node, index, operand) for index, operand in enumerate(operands)]
        if kind is OpKind.CONCAT:
            return np.concatenate(parts)
        if (part := sliced_channels(node, self.flows[node.name].axis)) is not None:
            return parts[0][part]
        for other in parts[1:]:
            self.problem.join(parts[0], other)
        self._place_unit(operands, parts[0])
        return parts[0]

    def _place_unit(self, operands: Sequence[fx.Node], channels: IntArray) -> None:
        """Where words with one step each are added up: the unit that their steps have in common, if they have one."""
        flows = [self.flows[operand.name] for operand in operands]
        if len(operands) < 2 or any(flow.carrier is not Carrier.SPIKES for flow in flows):
            return
        steps = [self.steps.at(operand.name, flow.family) for operand, flow in zip(operands, flows, strict=True)]
        unit = common_unit([float(step.flat[0]) for step in steps]) if all(step.size == 1 for step in steps) else None
        if unit is not None:
            self.problem.place(channels, unit)

    def _operand_channels(self, node: fx.Node, index: int, operand: fx.Node) -> IntArray:
        flow = self.flows[operand.name]
        if flow.carrier is Carrier.CURRENT:
            return self.channels[operand.name]
        threshold = self.thresholds[flow.family]
        size = hinted_shape(operand)[self.flows[node.name].axis]
        largest = largest_magnitude(threshold.code)
        scale = np.broadcast_to(self.steps.at(operand.name, flow.family), size)
        source = self.problem.add_source(operand.name, size, scale, np.full(size, float(largest)), flexible=False)
        self.result.scales[node.name, index] = source
        return source.channels

    def _synapse_source(self, node: fx.Node, plan: SynapsePlan) -> Source:
        threshold = self.thresholds[plan.family]
        steps, shifts = self.steps.at(plan.source, plan.family), self.steps.shifts(plan.source, plan.family)
        weight, bias = folded_parameters(self.graph_module, node, steps, shifts)
        bits = self.widths.get(node.name, plan.weight_bits)
        given = self.scales.get(node.name)
        if given is None:
            scale = natural_scale(weight, bias, bits)
        else:
            scale = countable_scale(weight, bias, given.to(weight.device).double() * self.thresholds[plan.family].step)
        bound = _bound(weight, bias, scale, bits, threshold.code)
        excess = bound / FLOAT32_EXACT
        slightly = (excess > 1) & (excess <= _WORTH_COARSENING)
        if bool(slightly.any()):
            scale = torch.where(slightly, scale * excess * _ROUNDING_MARGIN, scale)
            bound = _bound(weight, bias, scale, bits, threshold.code)
        return self.problem.add_source(plan.layer, len(scale), scale.cpu().numpy(), bound.cpu().numpy(), flexible=True)

    def _product_source(self, node: fx.Node, plan: SynapsePlan) -> Source:
        assert plan.held_family is not None
        factors = self.thresholds[plan.family], self.thresholds[plan.held_family]
        size = hinted_shape(node)[self.flows[node.name].axis]
        scale = factors[0].step * factors[1].step
        bound = float(math.prod(largest_magnitude(factor.code) for factor in factors) * most_terms(node))
        return self.problem.add_source(plan.layer, size, np.full(size, scale), np.full(size, bound), flexible=False)

    def _pool_source(self, node: fx.Node) -> Source:
        operand, window = operands_of(node)[0], average_pool_divisor(node)
        assert window is not None
        flow = self.flows[operand.name]
        if flow.carrier is Carrier.CURRENT:
            channels = self.channels[operand.name]
            return self.problem.add_source(
                node.name, len(channels), None, None, flexible=False, pooled_from=(channels, window)
            )
        threshold = self.thresholds[flow.family]
        size = hinted_shape(node)[self.flows[node.name].axis]
        largest = largest_magnitude(threshold.code) * window
        scale = np.broadcast_to(self.steps.at(operand.name, flow.family) / window, size)
        return self.problem.add_source(node.name, size, scale, np.full(size, float(largest)), flexible=False)

    def _add_reader(self, node: fx.Node) -> None:
        """The first neuron without a normalization of its own that reads a current places its unit."""
        site = self.sites[node.name]
        source = node.args[0] if site.origin == "activation" else node
        if site.affine is None and isinstance(source, fx.Node) and source.name in self.channels:
            table = self.tables.get(node.name)
            if table is None:
                self.problem.read(self.channels[source.name], self.steps.at(node.name, site.family))
            else:
                finest = _SIGNIFICAND_BITS - table.farthest.bit_length()
                self.problem.read(self.channels[source.name], table.spacing, finest)


class _Sums:
    """The graph of currents alone: which sums, layouts and concats a current enters."""

    def __init__(self, nodes: Sequence[fx.Node], sources: set[str]) -> None:
        """Keeps the nodes in their order, without what sources are computed from."""
        self._order = {node.name: index for index, node in enumerate(nodes)}
        self._joined = {node.name for node in nodes if kind_of(node) is OpKind.CONCAT}
        self._operands: dict[str, list[str]] = {}
        self._users: dict[str, list[str]] = {}
        for node in nodes:
            if node.name not in sources:
                self._operands[node.name] = [operand.name for operand in operands_of(node)]
                for name in self._operands[node.name]:
                    self._users.setdefault(name, []).append(node.name)

    def most_paths(self, start: str) -> int:
        """The most paths from one node to any other."""
        paths = {start: 1}
        for name in self._behind(start):
            counts = [paths.get(operand, 0) for operand in self._operands[name]]
            paths[name] = max(counts) if name in self._joined else sum(counts)
        return max(paths.values())

    def _behind(self, start: str) -> list[str]:
        found: set[str] = set()
        pending = [start]
        while pending:
            new = [user for user in self._users.get(pending.pop(), ()) if user not in found]
            found.update(new)
            pending.extend(new)
        return sorted(found, key=self._order.__getitem__)


def _bound(weight: Tensor, bias: Tensor, scale: Tensor, bits: int | Tensor, code: SpikeCode) -> Tensor:
    """Bound of the integer current at a scale, with room for a later correction of the bias, [O]."""
    biases = torch.where(scale > 0, bias.double() / scale, torch.zeros_like(scale)).abs() + BIAS_RESERVE
    return accumulator_bound(quantize(weight, scale, bits), biases, *code.extremes)


def largest_magnitude(code: SpikeCode) -> int:
    """Bound of |z| for every window of a code."""
    low, high = code.extremes
    return max(high, -low)


def operands_of(node: fx.Node) -> list[fx.Node]:
    """The activations a current node combines: the items of a concat, both sides of a sum, else the first."""
    first = node.args[0]
    if isinstance(first, (list, tuple)):
        return [item for item in first if isinstance(item, fx.Node)]
    if kind_of(node) is OpKind.ADD:
        return [arg for arg in node.args[:2] if isinstance(arg, fx.Node)]
    assert isinstance(first, fx.Node)
    return [first]
