"""The differentiable form of a whole spiking network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, fx, nn

from snnconvert.engines.stepwise import is_exact
from snnconvert.neurons.current import IntegerScale, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.links import Links, find_links
from snnconvert.trainable.neuron import TrainableNeuron, TrainableReal, TrainableTransfer
from snnconvert.trainable.proof import prove_sums
from snnconvert.trainable.scale import TrainableScale
from snnconvert.trainable.synapse import TrainableSynapse
from snnconvert.trainable.through_time import ThroughTime, unfit_layers

Trainable = TrainableSynapse | TrainableScale | TrainableNeuron | TrainableTransfer | TrainableReal


class TrainableNetwork(nn.Module):
    """What a spiking network computes, as a differentiable function of real weights, biases and thresholds.

    Its forward pass gives what the integers give that :meth:`settle` leaves in the spiking network, as exactly as
    float32 adds them up: packed, in one pass, or in time, see :class:`~snnconvert.trainable.gradients.Gradients`.
    In one pass, neurons whose spikes depend on when their input comes fire as for a constant current.
    """

    def __init__(self, network: fx.GraphModule, trial: Sequence[Tensor]) -> None:
        """Starts from a network's integers.

        Args:
            network: the spiking graph, whose modules :meth:`settle` changes.
            trial: the tensors of one call, for the shapes of its values.
        """
        super().__init__()
        self._trial = tuple(trial)
        links = find_links(network, trial)
        made = _made(network, links)
        targets = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
        root: dict[str, Any] = {name: made.get(name, network.get_submodule(name)) for name in targets}
        for node in network.graph.find_nodes(op="get_attr"):
            root[str(node.target)] = _attribute(network, str(node.target))
        self.graph = fx.GraphModule(root, _copied(network.graph))
        self._network = (network,)
        self._through_time: ThroughTime | None = None
        self.gradients = default_gradients(network)

    @property
    def gradients(self) -> Gradients:
        """Whether it runs in one pass or in time.

        Raises:
            ConfigurationError: when set, if gradients can't go through the steps of some neurons.
        """
        return Gradients() if self._through_time is None else self._through_time.gradients

    @gradients.setter
    def gradients(self, gradients: Gradients) -> None:
        in_time = gradients.through == "time"
        self._through_time = ThroughTime(self._network[0], self.graph, gradients) if in_time else None

    def forward(self, *inputs: Tensor) -> Any:
        """What the spiking graph gives."""
        return self.graph(*inputs) if self._through_time is None else self._through_time(*inputs)

    def settle(self) -> None:
        """Leaves the integers in the spiking network, and widens sums whose bound has grown."""
        for _, module in self.trainables():
            module.settle()
        prove_sums(self._network[0], self._trial)

    def trainables(self) -> Iterator[tuple[str, Trainable]]:
        """(layer name, differentiable module) in the order of the graph."""
        for node in self.graph.graph.nodes:
            if node.op == "call_module":
                module = self.graph.get_submodule(str(node.target))
                if isinstance(module, Trainable):
                    yield str(node.meta.get("layer", node.target)), module

    def synapses(self) -> Iterator[tuple[str, TrainableSynapse]]:
        """(layer name, synapse) in the order of the graph."""
        yield from ((name, module) for name, module in self.trainables() if isinstance(module, TrainableSynapse))

    def neurons(self) -> Iterator[tuple[str, TrainableNeuron]]:
        """(layer name, neurons) in the order of the graph."""
        yield from ((name, module) for name, module in self.trainables() if isinstance(module, TrainableNeuron))


def default_gradients(network: fx.GraphModule) -> Gradients:
    """Through time where neurons don't fire what they would for a constant current, and gradients can go that way."""
    return Gradients("window" if is_exact(network) or unfit_layers(network) else "time")


def _copied(graph: fx.Graph) -> fx.Graph:
    """The same nodes, with their notes, in a graph of their own."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    return copied


def _made(network: fx.GraphModule, links: Links) -> dict[str, Trainable]:
    """Differentiable forms by module name, each with what it needs of the others."""
    made: dict[str, Trainable] = {}
    for node in network.graph.nodes:
        name = str(node.target)
        if node.op == "call_module" and (form := _form(network, name, links)) is not None:
            made[name] = form
    for name, module in made.items():
        if isinstance(module, TrainableNeuron):
            for reader in links.readers.get(name, ()) if module.stretches else ():
                _lend(made[reader], module.factor)
        if isinstance(module, TrainableSynapse) and module.folds:
            for fold in links.folds[name]:
                reader_of_current = made[fold.name]
                assert isinstance(reader_of_current, (TrainableNeuron, TrainableTransfer, TrainableReal))
                reader_of_current.fold = _Shaped(module, fold.axis, fold.rank)
    return made


def _form(network: fx.GraphModule, name: str, links: Links) -> Trainable | None:
    module = network.get_submodule(name)
    if isinstance(module, Synapse):
        feeding = links.feeding.get(name)
        step = 1.0 if feeding is None else _step_of(network.get_submodule(feeding))
        return TrainableSynapse(module, step, folds=name in links.folds)
    if isinstance(module, SpikingNeuron):
        readers = links.readers.get(name, ())
        free = bool(readers) and all(_is_free(network, reader, links) for reader in readers)
        return TrainableNeuron(module, learns=name not in links.inputs, stretches=free and name not in links.inputs)
    if isinstance(module, IntegerScale):
        return TrainableScale(module)
    if isinstance(module, (LeakyTransfer, TableTransfer)):
        return TrainableTransfer(module)
    return TrainableReal(module) if isinstance(module, ToReal) else None


def _is_free(network: fx.GraphModule, name: str, links: Links) -> bool:
    reader = network.get_submodule(name)
    if isinstance(reader, Synapse):
        return name in links.folds or TrainableSynapse.is_fine(reader)
    return not isinstance(reader, IntegerScale) or TrainableScale.is_fine(reader)


def _step_of(neuron: nn.Module) -> float:
    assert isinstance(neuron, SpikingNeuron)
    return float(neuron.step.double().max())


def _lend(reader: Trainable, factor: Callable[[], Tensor]) -> None:
    """Lets who reads spikes take what their step has grown by."""
    if isinstance(reader, (TrainableSynapse, TrainableScale)):
        reader.input_factor = factor
    else:
        reader.fold = factor


class _Shaped:
    """What a synapse leaves to its readers, shaped to broadcast over what they read."""

    def __init__(self, synapse: TrainableSynapse, axis: int, rank: int) -> None:
        self._synapse, self._shape = synapse, [-1 if dim == axis else 1 for dim in range(rank)]

    def __call__(self) -> Tensor:
        return self._synapse.fold().view(self._shape)


def _attribute(module: nn.Module, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value
