"""The timeline: when every value of a spiking graph arrives, and where codes have to be adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import fx

from snnconvert.convert.ops import NEAREST
from snnconvert.engines.course import Carrier, Course, product_course, whole
from snnconvert.errors import ConfigurationError, ConversionError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

aten = torch.ops.aten
Latency = Literal["streaming", "window"]
MAX_POOLS = frozenset({aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default})
_WORDS_AND_SPIKES = "multiplies one side's complete words by the other side's spikes"
_WHOLE_WORDS = "multiplies both sides' complete words, one of them decoded from its number"
_JOINS = frozenset({aten.add.Tensor, aten.cat.default})
_LAYOUTS = NEAREST | frozenset(
    {
        aten.view.default, aten.reshape.default, aten.permute.default, aten.transpose.int, aten.unsqueeze.default,
        aten.squeeze.dim, aten.squeeze.dims, aten.slice.Tensor, aten.clone.default, aten.contiguous.default,
        aten.constant_pad_nd.default, aten.pad.default, aten.flatten.using_ints, aten.flip.default,
        aten.roll.default, aten.pixel_shuffle.default, aten.pixel_unshuffle.default, aten.index_select.default,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Adapter:
    """A place where values of different timing meet.

    Attributes:
        layer: the layer's name.
        action: what is done there.
        exact: whether the value stays what it would be without time.
    """

    layer: str
    action: str
    exact: bool


@dataclass(frozen=True)
class Timeline:
    """Courses of all nodes of a spiking graph.

    Attributes:
        courses: course of each node, by name.
        adapters: where timing is adapted.
        latency: the latency model.
        ticks: ticks until the output is complete.
    """

    courses: Mapping[str, Course]
    adapters: tuple[Adapter, ...]
    latency: Latency
    ticks: int


def infer_timeline(network: fx.GraphModule, latency: Latency, event_steps: int | None = None) -> Timeline:
    """Infers when every value arrives.

    "streaming": neurons whose code allows it fire while they integrate, all in the same tick as their
    input; what rate codes then lose is the unevenness error. "window": every neuron waits for the whole
    window of its input and then fires under a constant current, which costs T ticks a layer and loses
    nothing. Packed neurons always wait: their largest digit is known only when all current has come.

    Args:
        network: the spiking graph.
        latency: the latency model.
        event_steps: number of event frames, None for one still input.

    Raises:
        ConfigurationError: on an unknown latency model.
        ConversionError: if a synapse would read anything but spikes, or event frames reach an operation
            that is not additive before they are spikes, naming the layer.
    """
    if latency not in get_args(Latency):
        raise ConfigurationError(f"latency must be one of {', '.join(get_args(Latency))}, got {latency!r}")
    return _Inference(network, latency, event_steps).infer()


class _Inference:
    def __init__(self, network: fx.GraphModule, latency: Latency, event_steps: int | None) -> None:
        self.network, self.latency, self.event_steps = network, latency, event_steps
        self.modules = {
            node.name: network.get_submodule(str(node.target))
            for node in network.graph.nodes
            if node.op == "call_module"
        }
        self.courses: dict[str, Course] = {}
        self.adapters: list[Adapter] = []
        self.before_neurons = self._before_neurons()

    def infer(self) -> Timeline:
        for node in self.network.graph.nodes:
            self.courses[node.name] = self._course(node)
        (output,) = [node.name for node in self.network.graph.nodes if node.op == "output"]
        ticks = self.courses[output].end
        return Timeline(self.courses, tuple(self.adapters), self.latency, ticks)

    def _before_neurons(self) -> set[str]:
        """Nodes whose value some neuron will still fire on; the others are the network's readout."""
        found: set[str] = set()
        for node in reversed(self.network.graph.nodes):
            if any(user.name in found or isinstance(self.modules.get(user.name), SpikingNeuron) for user in node.users):
                found.add(node.name)
        return found

    def _course(self, node: fx.Node) -> Course:
        sources = [self.courses[source.name] for source in node.all_input_nodes]
        if node.op == "placeholder":
            return self._input_course()
        if node.op == "output":
            return max(sources, key=lambda course: (course.carrier is not Carrier.STATIC, course.end))
        module = self.modules.get(node.name)
        if module is not None:
            source = sources[0]
            is_constant = source.carrier is Carrier.STATIC
            if isinstance(module, Product):
                return self._product_course(node, *sources)
            self._check_added_up(node)
            return self._module_course(node, module, whole(Carrier.REAL, source.start) if is_constant else source)
        self._check_added_up(node)
        timed = [course for course in sources if course.carrier is not Carrier.STATIC]
        if not timed or node.target is aten.sym_size.int:
            return Course(Carrier.STATIC, max((course.start for course in sources), default=0))
        return self._function_course(node, timed)

    def _check_added_up(self, node: fx.Node) -> None:
        """Refuses spikes that number their value where they would be added up."""
        if any(self.courses[source.name].words for source in node.all_input_nodes):
            raise ConversionError(
                f"{_layer(node)}: it would add up digits that number their value; only products of two activations "
                "read such words"
            )

    def _input_course(self) -> Course:
        if self.event_steps is None:
            return whole(Carrier.REAL, 0)
        return Course(Carrier.FRAMES, 0, (1.0,) * self.event_steps, flows=True, extrapolates=True)

    def _module_course(self, node: fx.Node, module: torch.nn.Module, source: Course) -> Course:
        if isinstance(module, SpikingNeuron):
            return self._neuron_course(node, module, source)
        if isinstance(module, Synapse):
            if source.carrier is not Carrier.SPIKES:
                raise ConversionError(f"{_layer(node)}: its input is {source.carrier.value}, not spikes")
            return source.carrying(Carrier.CURRENT)
        if isinstance(module, (IntegerScale, SumPool)):
            return source.carrying(Carrier.CURRENT)
        if isinstance(module, (ToReal, LeakyTransfer, TableTransfer)):
            return self._real_course(node, source)
        raise ConversionError(f"{_layer(node)}: {type(module).__name__} has no course in time")

    def _product_course(self, node: fx.Node, left: Course, right: Course | None = None) -> Course:
        right = left if right is None else right
        for course in (left, right):
            if course.carrier is not Carrier.SPIKES:
                raise ConversionError(f"{_layer(node)}: its input is {course.carrier.value}, not spikes")
        if not left.is_in_step_with(right):
            self._adapt(node, _WHOLE_WORDS if left.words or right.words else _WORDS_AND_SPIKES)
        return product_course(left, right)

    def _neuron_course(self, node: fx.Node, module: SpikingNeuron, source: Course) -> Course:
        code = module.code
        if source.carrier is Carrier.FRAMES:
            return replace(source, carrier=Carrier.SPIKES, spike_range=_frame_range(node, code))
        streams = self._streams(module, source)
        if code.streams and self.latency == "streaming" and not streams and source.steps > 1:
            self._adapt(node, f"waits for the whole window of its {source.steps} input steps, then fires {code.T}")
        start = source.start if streams else source.end
        return Course(
            Carrier.SPIKES,
            start,
            code.growth,
            flows=code.streams,
            extrapolates=code.extrapolates,
            spike_range=code.spike_range,
            words=code.words,
        )

    def _streams(self, module: SpikingNeuron, source: Course) -> bool:
        can = module.code.streams and source.flows and source.steps == module.code.T
        return self.latency == "streaming" and can

    def _real_course(self, node: fx.Node, source: Course) -> Course:
        is_readout = node.name not in self.before_neurons
        if is_readout or (self.latency == "streaming" and source.flows):
            return Course(Carrier.REAL, source.start, (1.0,) * source.steps, flows=True)
        return whole(Carrier.REAL, source.end - 1)

    def _function_course(self, node: fx.Node, sources: list[Course]) -> Course:
        carriers = {course.carrier for course in sources}
        if carriers == {Carrier.REAL}:
            start, end = max(course.start for course in sources), max(course.end for course in sources)
            flows = any(course.flows for course in sources)
            return Course(Carrier.REAL, start, (1.0,) * (end - start), flows=flows)
        if Carrier.REAL in carriers or (Carrier.FRAMES in carriers and not _moves_values(node)):
            raise ConversionError(
                f"{_layer(node)} acts on the input before it is spikes, and not step by step: event frames "
                "can't drive this network"
            )
        if node.target in MAX_POOLS:
            return self._max_pool_course(sources[0])
        if node.target in _JOINS and len(sources) > 1:
            return self._join_course(node, sources)
        return sources[0]

    def _max_pool_course(self, source: Course) -> Course:
        if self.latency == "streaming" and source.flows:
            return Course(Carrier.CURRENT, source.start, (1.0,) * source.steps, flows=True, extrapolates=True)
        return whole(Carrier.CURRENT, source.end - 1)

    def _join_course(self, node: fx.Node, sources: list[Course]) -> Course:
        spikes = node.target is aten.cat.default and all(course.carrier is Carrier.SPIKES for course in sources)
        carrier = Carrier.SPIKES if spikes else Carrier.CURRENT
        if all(course.is_in_step_with(sources[0]) for course in sources):
            return sources[0].carrying(carrier)
        if spikes and len({course.timing[1:] for course in sources}) == 1:
            latest = max(sources, key=lambda course: course.start)
            self._adapt(node, f"delays earlier spikes until tick {latest.start}")
            return latest
        self._adapt(node, "integrates each operand over its own window, then joins the totals")
        return whole(Carrier.CURRENT, max(course.end for course in sources) - 1)

    def _adapt(self, node: fx.Node, action: str) -> None:
        self.adapters.append(Adapter(_layer(node), action, exact=True))


def _frame_range(node: fx.Node, code: SpikeCode) -> tuple[int, int]:
    """The spikes of event frames: each frame is one spike of the whole window's range."""
    low, high = (math.floor(code.minimum), 0) if code.signed else (0, math.ceil(code.span))
    high = math.ceil(code.maximum) if code.signed else high
    if low < -128 or high > (127 if code.signed else 255):
        raise ConversionError(f"{_layer(node)}: an event frame is one spike of 8 bits, its code counts {low}..{high}")
    return low, high


def _moves_values(node: fx.Node) -> bool:
    """Whether a node only moves values, or pads with zeros, so that it acts on each of several addends alone."""
    if node.target in (aten.constant_pad_nd.default, aten.pad.default):
        return all(argument in (None, 0, "constant") for argument in node.args[2:])
    return node.target in _LAYOUTS


def _layer(node: fx.Node) -> str:
    return str(node.meta.get("layer", node.name))
