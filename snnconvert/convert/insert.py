"""Insertion: writes the spiking graph, neurons and integer synapses in place of rectifiers and layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from snnconvert.convert.arguments import as_int, as_ints, with_defaults
from snnconvert.convert.channels import SpikeChannels, Steps
from snnconvert.convert.currents import (
    Currents,
    folded_parameters,
    largest_magnitude,
    operands_of,
    solve_currents,
)
from snnconvert.convert.elementwise import function_of
from snnconvert.convert.flow import Carrier, Flow, infer_flows, pool_window, reduced_dims
from snnconvert.convert.function_tables import function_tables, head_of_neurons
from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import CONVOLUTIONS, PRELU, TRANSPOSED, OpKind, affine_source, is_leaky, kind_of
from snnconvert.convert.plan import Plan, Site, SynapsePlan
from snnconvert.convert.shapes import hinted_shape, most_terms
from snnconvert.convert.units import FloatArray
from snnconvert.convert.weights import quantize
from snnconvert.errors import ConversionError
from snnconvert.neurons.byte_tables import Potentials
from snnconvert.neurons.current import IntegerScale, PoolGeometry, SumPool, ToReal
from snnconvert.neurons.gain_grid import short_slope
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import BIAS_RESERVE, FLOAT32_EXACT, ConvGeometry, Synapse
from snnconvert.neurons.tabulation import FunctionTable
from snnconvert.neurons.threshold import Threshold
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

aten = torch.ops.aten
_PRODUCTS = {aten.mul.Tensor: "mul", **{target: f"conv{rank}d" for target, rank in CONVOLUTIONS.items()}}
_SMALLEST_GAIN = 2.0**-60
UNIT, CURRENT = "unit", "current"


class ExactSums:
    """The proof that sums of currents are exact, to be renewed when weights change."""

    def __init__(self, currents: Currents) -> None:
        self._currents = currents
        self.synapses: dict[str, Synapse] = {}

    def widen(self) -> None:
        """Sums in float64 what the integers' own bounds do not prove exact in float32."""
        synapses = {self._currents.synapses[name].first: synapse for name, synapse in self.synapses.items()}
        bounds = {first: synapse.bound().cpu().numpy() for first, synapse in synapses.items()}
        for first in self._currents.problem.inexact_sums(bounds):
            if first in synapses:
                synapses[first].wide = True
                synapses[first].prepare()


def insert_neurons(
    graph_module: fx.GraphModule,
    plan: Plan,
    thresholds: Mapping[int, Threshold],
    channels: SpikeChannels | None = None,
    widths: Mapping[str, Tensor] | None = None,
    scales: Mapping[str, Tensor] | None = None,
    potentials: Mapping[str, Potentials] | None = None,
) -> tuple[fx.GraphModule, ExactSums]:
    """Builds the spiking network of a canonical graph.

    Every planned synapse becomes a :class:`Synapse` of integers that reads spikes, every site a
    :class:`SpikingNeuron`; sums, pools and concats between them work on integer currents. What stays
    analog is copied and reads real numbers. Equal to the ANN up to the quantization of words and weights.

    Args:
        graph_module: the canonical graph; it is left as it is.
        plan: its plan.
        thresholds: threshold of each family of sites.
        channels: where spikes have their channels; needed where thresholds are per channel.
        widths: weight bits of each output channel [O] of the synapses that don't have the plan's, by node name.
        scales: what an integer of each output channel's weights is worth in the ANN's unit [O], by node name, of
            synapses whose weights already are multiples of it; those of the others are searched. Common units make
            it larger, mostly by less than one percent, which changes no integer; where words of many bits meet weights
            of many bits by up to 13 %. Where input channels have steps Δ_i of their own the multiples are of
            W·Δ_i/Δ, with Δ the largest.
        potentials: what calibration has seen of the potentials of sites on functions that are to tell 256 of them
            apart, by node name.

    Returns:
        The network, and the proof that its sums are exact.
    """
    activations = {site.node: site.family for site in plan.sites if site.origin == "activation"}
    flows = infer_flows(graph_module.graph, activations, frozenset(item.node for item in plan.synapses))
    channels = SpikeChannels() if channels is None else channels
    widths = {} if widths is None else widths
    steps = Steps(thresholds, channels)
    tables = function_tables(graph_module.graph, plan, thresholds, steps, potentials or {})
    currents = solve_currents(graph_module, plan, flows, thresholds, channels, tables, widths, scales or {})
    emitter = _Emitter(graph_module, plan, thresholds, flows, currents, steps, tables, widths)
    return emitter.emit(), emitter.sums


class _Emitter:
    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        thresholds: Mapping[int, Threshold],
        flows: Mapping[str, Flow],
        currents: Currents,
        steps: Steps,
        tables: Mapping[str, FunctionTable],
        widths: Mapping[str, Tensor],
    ) -> None:
        self.old, self.thresholds, self.flows, self.currents = graph_module, thresholds, flows, currents
        self.steps, self.tables, self.widths = steps, tables, widths
        self.subtracted: dict[str, FloatArray] = {}
        self.sites = {site.node: site for site in plan.sites}
        self.plans = {item.node: item for item in plan.synapses}
        self.graph = fx.Graph()
        self.root: dict[str, object] = {}
        self.native: dict[str, fx.Node] = {}
        self.spikes: dict[str, fx.Node] = {}
        self.real: dict[str, fx.Node] = {}
        self.sums = ExactSums(currents)
        self.device = next((t.device for t in graph_module.buffers()), torch.device("cpu"))

    def emit(self) -> fx.GraphModule:
        for node in self.old.graph.nodes:
            if node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self._as_real))
                continue
            if self._is_absorbed(node):
                continue
            site = self.sites.get(node.name)
            if site is not None and site.affine == node.name:
                self.spikes[node.name] = self._emit_affine_neuron(site, node)
                continue
            self.native[node.name] = self._emit_node(node)
            self._note_unit(node)
            if site is not None and site.origin != "activation":
                self.spikes[node.name] = self._emit_neuron(site, node, None)
        self.sums.widen()
        full = fx.GraphModule(self.root, self.graph)
        full.graph.eliminate_dead_code()
        used = {str(node.target) for node in full.graph.nodes if node.op in ("get_attr", "call_module")}
        converted = fx.GraphModule({name: item for name, item in self.root.items() if name in used}, full.graph)
        converted.graph.lint()
        return converted

    def _note_unit(self, node: fx.Node) -> None:
        """Leaves at a current or a real number which it is and what one count is worth, for those who correct it."""
        if self.flows[node.name].carrier is not Carrier.SPIKES and isinstance(node.meta.get("val"), Tensor):
            unit, axis = self._unit_of(node)
            shaped = _shaped(torch.as_tensor(unit), axis, max(len(hinted_shape(node)), 1))
            self.native[node.name].meta[UNIT] = shaped.to(self.device)
            self.native[node.name].meta[CURRENT] = self.flows[node.name].carrier is Carrier.CURRENT

    def _is_absorbed(self, node: fx.Node) -> bool:
        """A normalization that rectifying neurons take over entirely."""
        takers = [user for user in node.users if user.name in self.sites and self.sites[user.name].affine == node.name]
        return bool(takers) and len(takers) == len(node.users)

    def _emit_node(self, node: fx.Node) -> fx.Node:
        flow = self.flows[node.name]
        if node.name in self.plans:
            plan = self.plans[node.name]
            return self._emit_synapse(node, plan) if plan.held is None else self._emit_product(node, plan)
        if flow.carrier is Carrier.SPIKES and node.name in self.sites and self.sites[node.name].origin == "activation":
            return self._emit_activation(node)
        if flow.carrier is Carrier.CURRENT:
            return self._emit_current(node)
        if flow.carrier is Carrier.SPIKES or kind_of(node) is OpKind.SHAPE:
            return self._copy(node, {arg: self.native[arg.name] for arg in node.all_input_nodes})
        if node.op == "get_attr":
            value = constant_of(self.old, node)
            assert value is not None
            name = f"constant_{_identifier(str(node.target))}_{len(self.root)}"
            self.root[name] = value
            return self.graph.get_attr(name)
        return self._copy(node, {arg: self._real_argument(arg) for arg in node.all_input_nodes})

    def _copy(self, node: fx.Node, sources: Mapping[fx.Node, fx.Node]) -> fx.Node:
        return self.graph.node_copy(node, lambda arg: sources[arg])

    def _real_argument(self, node: fx.Node) -> fx.Node:
        return self.native[node.name] if kind_of(node) is OpKind.SHAPE else self._as_real(node)

    def _call(self, prefix: str, node: fx.Node, module: nn.Module, *sources: fx.Node) -> fx.Node:
        name, index = f"{prefix}_{_identifier(layer_name(node))}", 1
        while name in self.root:
            index += 1
            name = f"{prefix}_{_identifier(layer_name(node))}_{index}"
        self.root[name] = module.to(self.device)
        call = self.graph.call_module(name, sources)
        call.meta = {"layer": layer_name(node), "source": node.name}
        return call

    def _emit_synapse(self, node: fx.Node, plan: SynapsePlan) -> fx.Node:
        threshold, source = self.thresholds[plan.family], self.currents.synapses[node.name]
        steps, shifts = self.steps.at(plan.source, plan.family), self.subtracted.get(plan.source)
        weight, bias = folded_parameters(self.old, node, steps, shifts)
        unit = torch.from_numpy(source.unit).to(weight.device)
        multiplier = torch.from_numpy(source.multiplier).to(weight.device)
        scale, widths = unit * multiplier, self.widths.get(node.name)
        synapse = Synapse(
            quantize(weight, scale, plan.weight_bits if widths is None else widths),
            (bias.double() / scale).round(),
            multiplier,
            unit,
            geometry=geometry_of(node),
            weight_bits=plan.weight_bits,
            channel_bits=widths,
            word_range=threshold.code.extremes,
            wide=source.wide,
            bias_reserve=BIAS_RESERVE,
        )
        self.sums.synapses[node.name] = synapse
        return self._call("synapse", node, synapse, self._words(plan.source))

    def _emit_product(self, node: fx.Node, plan: SynapsePlan) -> fx.Node:
        source = self.currents.synapses[node.name]
        assert plan.held is not None
        assert plan.held_family is not None
        left, right = self.thresholds[plan.family], self.thresholds[plan.held_family]
        product = Product(
            _PRODUCTS.get(node.target, "matmul"),
            left.step * right.step,
            _shaped(torch.from_numpy(source.multiplier), self.flows[node.name].axis, len(hinted_shape(node))),
            (largest_magnitude(left.code), largest_magnitude(right.code), most_terms(node)),
            geometry=geometry_of(node),
            wide=source.wide,
        )
        return self._call("product", node, product, self._words(plan.source), self._words(plan.held))

    def _words(self, name: str) -> fx.Node:
        return self.spikes[name] if name in self.spikes else self.native[name]

    def _emit_function(self, site: Site, node: fx.Node) -> fx.Node:
        """Neurons that fire on a function of their potential: its transfer, then a neuron of gain one."""
        source = node.all_input_nodes[0]
        threshold = self.thresholds[site.family]
        head = head_of_neurons(node, threshold)
        if head is not None:
            scale, shift = (torch.tensor([threshold.step * value], dtype=torch.float64) for value in head)
            return self._emit_neuron(site, source, (scale, shift), at=node)
        unit, axis = self._unit_of(source)
        rank = len(hinted_shape(source))
        units, (steps, axis) = torch.as_tensor(unit), self._steps_of(site, axis)
        if is_leaky(node):
            gain = _shaped(units / steps, axis, rank)
            transfer: nn.Module = LeakyTransfer(gain, gain * _shaped(short_slope(self._slope(node)), 1, rank))
            rest = torch.ones(1)
        else:
            table = self.tables[node.name]
            transfer = TableTransfer(_shaped(units / table.spacing, axis, rank), table.first, table.values)
            rest = float(steps.min()) / steps
        potential = self._call("transfer", node, transfer, self.native[source.name])
        neuron = SpikingNeuron(threshold.code, _shaped(rest, axis, rank), _shaped(steps, axis, rank))
        return self._call("neuron", node, neuron, potential)

    def _slope(self, node: fx.Node) -> Tensor:
        if node.target not in PRELU:
            slope = with_defaults(node, 0.01)[0]
            return torch.tensor([slope], dtype=torch.float64)
        weight = constant_of(self.old, node.args[1])
        assert weight is not None
        return weight.double().flatten().cpu()

    def _emit_activation(self, node: fx.Node) -> fx.Node:
        site = self.sites[node.name]
        if kind_of(node) is OpKind.FUNCTION:
            return self._emit_function(site, node)
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if site.affine is None:
            return self._emit_neuron(site, source, None, at=node)
        return self._emit_affine_neuron(site, source, at=node)

    def _emit_affine_neuron(self, site: Site, affine: fx.Node, at: fx.Node | None = None) -> fx.Node:
        """Neurons whose gain and bias take over a scale and shift in front of them."""
        current = affine_source(affine)
        assert current is not None
        if kind_of(affine) is OpKind.SCALING:
            function = function_of(affine)
            assert function is not None
            shift, end = function(torch.tensor([0.0, 1.0], dtype=torch.float64))
            return self._emit_neuron(site, current, ((end - shift).reshape(1), shift.reshape(1)), at=at or affine)
        scale, shift = constant_of(self.old, affine.args[1]), constant_of(self.old, affine.args[2])
        assert scale is not None
        assert shift is not None
        return self._emit_neuron(site, current, (scale, shift), at=at or affine)

    def _emit_neuron(
        self, site: Site, source: fx.Node, affine: tuple[Tensor, Tensor] | None, at: fx.Node | None = None
    ) -> fx.Node:
        threshold = self.thresholds[site.family]
        unit, axis = self._unit_of(source)
        rank = len(hinted_shape(source))
        steps, axis = self._steps_of(site, axis)
        scale, shift = (torch.ones(1), torch.zeros(1)) if affine is None else (affine[0].cpu(), affine[1].cpu())
        gain = _nonzero(torch.as_tensor(unit) * scale.double() / steps)
        if not torch.isfinite(gain.float()).all():
            raise ConversionError(f"{site.layer}: its values are too small to tell apart in float32")
        counts = self._constant_counts(site, source, (steps, gain), None if affine is None else shift.double())
        bias = None if counts is None else _shaped(counts, axis, rank)
        ceiling = None if site.cap is None else threshold.code.ceiling_at(site.cap / float(steps.max()))
        step = _shaped(steps, axis, rank)
        neuron = SpikingNeuron(threshold.code, _shaped(gain, axis, rank), step, bias, ceiling=ceiling)
        return self._call("neuron", at or source, neuron, self.native[source.name])

    def _constant_counts(
        self, site: Site, source: fx.Node, scale: tuple[Tensor, Tensor], shift: Tensor | None
    ) -> Tensor | None:
        """β [C] in counts of a potential: a normalization's shift less s_c, in whole counts on a current's own.

        Leaves what the neurons really subtract to the synapses that read them.

        Args:
            site: the site.
            source: the node whose value the neurons read.
            scale: Δ and g, whose product is the value of one count.
            shift: of a normalization that the neurons take over; None without one.
        """
        steps, gain = scale
        subtracted = self.steps.shifts(site.node, site.family)
        if subtracted is None:
            return None if shift is None else shift / steps / gain
        counts = ((0.0 if shift is None else shift) - torch.from_numpy(subtracted)) / steps / gain
        if shift is None and self.flows[source.name].carrier is Carrier.CURRENT:
            counts = counts.round()
            subtracted = (-counts * steps * gain).numpy()
        self.subtracted[site.node] = subtracted
        return counts

    def _steps_of(self, site: Site, axis: int) -> tuple[Tensor, int]:
        """A site's steps [C], float64, with the axis of their channels; or [1], with the axis given."""
        own = self.steps.axis(site.node, site.family)
        return torch.from_numpy(self.steps.at(site.node, site.family)), axis if own is None else own

    def _unit_of(self, node: fx.Node) -> tuple[FloatArray, int]:
        """The ANN value of one count of a node's native value, [C] or [1], and the axis of its channels."""
        flow = self.flows[node.name]
        if flow.carrier is Carrier.CURRENT:
            return self.currents.units[node.name], flow.axis
        if flow.carrier is Carrier.SPIKES:
            return self.steps.at(node.name, flow.family), self.steps.axis(node.name, flow.family) or 1
        return np.ones(1), 1

    def _emit_current(self, node: fx.Node) -> fx.Node:
        kind = kind_of(node)
        operands = operands_of(node)
        if kind is OpKind.AVERAGE_POOL:
            return self._emit_pool(node, operands[0])
        sources = [self._as_current(node, index, operand) for index, operand in enumerate(operands)]
        others = {arg: self.native[arg.name] for arg in node.all_input_nodes}
        copied = self._copy(node, others)
        copied.args = (sources, *copied.args[1:]) if kind is OpKind.CONCAT else (*sources, *copied.args[len(sources) :])
        return copied

    def _as_current(self, consumer: fx.Node, index: int, operand: fx.Node) -> fx.Node:
        source = self.currents.scales.get((consumer.name, index))
        if source is None or (source.multiplier == 1).all():
            return self.native[operand.name]
        flow = self.flows[consumer.name]
        multiplier = _shaped(torch.from_numpy(source.multiplier), flow.axis, len(hinted_shape(operand)))
        return self._call("scale", operand, IntegerScale(multiplier, wide=source.wide), self.native[operand.name])

    def _emit_pool(self, node: fx.Node, operand: fx.Node) -> fx.Node:
        source = self.currents.pools[node.name]
        flow = self.flows[node.name]
        multiplier = _shaped(torch.from_numpy(source.multiplier), flow.axis, len(hinted_shape(node)))
        bound = source.bound
        exceeds = bound is not None and bool((bound * source.multiplier).max() > FLOAT32_EXACT)
        pool = SumPool(multiplier, _pool_window(node, operand), wide=source.wide or exceeds)
        return self._call("pool", node, pool, self.native[operand.name])

    def _as_real(self, node: fx.Node) -> fx.Node:
        flow = self.flows[node.name]
        if flow.carrier is Carrier.REAL:
            return self.native[node.name]
        if node.name not in self.real:
            unit, axis = self._unit_of(node)
            shaped = _shaped(torch.as_tensor(unit), axis, len(hinted_shape(node)))
            self.real[node.name] = self._call("real", node, ToReal(shaped), self.native[node.name])
            self.real[node.name].meta[UNIT] = torch.ones((), device=self.device)
        return self.real[node.name]


def _identifier(layer: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in layer)


def _shaped(values: Tensor, axis: int, rank: int) -> Tensor:
    """A scalar if all values are the same, else [C] viewed to broadcast over an axis."""
    if bool((values == values.flatten()[0]).all()):
        return values.flatten()[0].clone()
    return values.view([-1 if dim == axis else 1 for dim in range(rank)])


def _nonzero(gain: Tensor) -> Tensor:
    """Keeps the gain of a channel whose normalization scale is (nearly) zero invertible."""
    return torch.where(gain.abs() < _SMALLEST_GAIN, torch.full_like(gain, _SMALLEST_GAIN), gain)


def geometry_of(node: fx.Node) -> ConvGeometry | None:
    """Stride, padding, dilation and groups of a convolution, transposed or not; None for anything else."""
    if node.target in TRANSPOSED:
        rank = TRANSPOSED[node.target]
        _, _, stride, padding, extra, groups, dilation = with_defaults(node, None, None, 1, 0, 0, 1, 1)
        return ConvGeometry(
            as_ints(stride, rank),
            as_ints(padding, rank),
            as_ints(dilation, rank),
            as_int(groups),
            transposed=True,
            output_padding=as_ints(extra, rank),
        )
    rank = CONVOLUTIONS.get(node.target, 0)
    if rank == 0:
        return None
    _, _, stride, padding, dilation, groups = with_defaults(node, None, None, 1, 0, 1, 1)
    return ConvGeometry(as_ints(stride, rank), as_ints(padding, rank), as_ints(dilation, rank), as_int(groups))


def _pool_window(node: fx.Node, operand: fx.Node) -> PoolGeometry:
    before, after = hinted_shape(operand), hinted_shape(node)
    if node.target is aten.mean.dim:
        return PoolGeometry(dims=reduced_dims(node), keepdim=len(before) == len(after))
    if node.target is aten.avg_pool2d.default:
        window = pool_window(node)
        return PoolGeometry(kernel=window.kernel, stride=window.stride, padding=window.padding)
    if after[2:] == (1, 1):
        return PoolGeometry(dims=(2, 3), keepdim=True)
    kernel = tuple(b // a for b, a in zip(before[2:], after[2:], strict=True))
    return PoolGeometry(kernel=kernel, stride=kernel, padding=(0, 0))
