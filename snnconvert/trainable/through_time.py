"""A spiking network in time with gradients: T steps, layer by layer, as the stepwise engine runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from snnconvert.engines.assembly import Assembly
from snnconvert.engines.cells import Cell, ToRealCell
from snnconvert.engines.course import Carrier, Course, whole
from snnconvert.engines.schedules import run_layers
from snnconvert.engines.stepwise import neuron_layers
from snnconvert.engines.timeline import Timeline, infer_timeline
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.integrate_and_fire import CountingCode
from snnconvert.neurons.product import Product
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.neuron import TrainableNeuron, TrainableReal, TrainableTransfer
from snnconvert.trainable.scale import TrainableScale
from snnconvert.trainable.synapse import TrainableSynapse
from snnconvert.trainable.timed_cells import (
    ConstantWindow,
    DifferentiableProduct,
    NeuronWindow,
    SynapseWindow,
    WindowCell,
)


class ThroughTime:
    """What ``simulate`` gives with streaming latency, as a differentiable function of a network's parameters.

    Synapses take all T steps as one batch, [T·N, ...]; residual sums, pools and layouts act on every step, analog nodes
    on what has been integrated. The forward pass adds up the same integers as the stepwise engine, and neurons decide
    in float64 as there.
    """

    def __init__(self, network: fx.GraphModule, forms: fx.GraphModule, gradients: Gradients) -> None:
        """Lays out the timeline.

        Args:
            network: the spiking graph.
            forms: the same graph with differentiable modules.
            gradients: surrogate and truncation.

        Raises:
            ConfigurationError: if gradients can't go through the steps of some neurons, naming the layer.
        """
        refused = unfit_layers(network)
        if refused:
            raise ConfigurationError(
                f"{refused[0]}: gradients go through time in neurons if, lif and those of words only; train with "
                'gradients through the "window"'
            )
        self.gradients = gradients
        self._network, self._forms = network, forms
        self._timeline = infer_timeline(network, "streaming")

    def __call__(self, *inputs: Tensor, smoothed: bool = False) -> Any:
        """The network's output for a still input.

        Args:
            inputs: the tensors of one call.
            smoothed: fire smooth functions in place of spikes, see :class:`~snnconvert.trainable.membrane.Membrane`.
        """
        assembly = _Assembly(self._network, self._timeline, self._forms, self.gradients, smoothed=smoothed)
        return run_layers(self._network, self._timeline, assembly, [inputs])[-1]


def unfit_layers(network: fx.GraphModule) -> list[str]:
    """Layers whose neurons have no gradients through time."""
    return [
        layer
        for layer, neuron in neuron_layers(network).values()
        if not isinstance(neuron.code, CountingCode) and (not neuron.code.exact or neuron.code.words)
    ]


class _Assembly(Assembly):
    """Cells whose synapses and neurons are the differentiable ones."""

    def __init__(
        self,
        network: fx.GraphModule,
        timeline: Timeline,
        forms: fx.GraphModule,
        gradients: Gradients,
        *,
        smoothed: bool,
    ) -> None:
        self._forms, self._gradients, self._smoothed = forms, gradients, smoothed
        super().__init__(network, timeline, None)

    def _module_cell(self, node: fx.Node, module: nn.Module, courses: Mapping[str, Course]) -> Cell:
        form = self._forms.get_submodule(str(node.target))
        if isinstance(form, TrainableScale):
            return super()._module_cell(node, form, courses)
        is_trained = isinstance(form, (TrainableSynapse, TrainableNeuron, TrainableReal, TrainableTransfer))
        if not courses or not is_trained:
            return super()._module_cell(node, module, courses)
        ((source, before),) = courses.items()
        after = self._timeline.courses[node.name]
        if isinstance(form, TrainableSynapse):
            return SynapseWindow(source, form, before)
        if isinstance(form, TrainableNeuron):
            return NeuronWindow(source, form, before, after, self._gradients, smoothed=self._smoothed)
        return ToRealCell(source, form, before, after)

    def _product_cell(self, node: fx.Node, module: Product, courses: Mapping[str, Course]) -> Cell:
        left, right = (source.name for source in node.args if isinstance(source, fx.Node))
        return DifferentiableProduct(node, (left, right), module, (courses[left], courses[right]), None)

    def _constant_cell(self, node: fx.Node, module: nn.Module) -> Cell:
        (source,) = (source.name for source in node.all_input_nodes)
        start = self._timeline.courses[source].start
        inner = self._module_cell(node, module, {source: whole(Carrier.REAL, start)})
        if isinstance(inner, WindowCell):
            return ConstantWindow(inner, start, self._statics[source])
        return super()._constant_cell(node, module)
