"""The stepwise engine: a spiking network in time, spikes in, membranes that integrate, spikes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx

from snnconvert.engines.assembly import Assembly, layer_names
from snnconvert.engines.recording import LayerRecord, Recorder, RecordRequest
from snnconvert.engines.schedules import Answer, run_layers, run_ticks
from snnconvert.engines.synapse_cell import SynapseWatcher
from snnconvert.engines.timeline import Adapter, Latency, Timeline, infer_timeline
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.neuron import SpikingNeuron

Schedule = Literal["layer", "tick"]


@dataclass(frozen=True)
class Simulation:
    """A network's answer in time.

    Attributes:
        output: [N, ...], what the network says in the end; of several outputs, the structure the ANN returns.
        readout: [K, N, ...], what it says after each step of its last window; ``readout[-1]`` is ``output``.
            Of several outputs, the same structure of tensors [K, ...].
        readout_ticks: the tick of each readout.
        layers: what was recorded of each neuron layer, by name, in the order of the graph.
        adapters: where values of different timing were brought together.
        latency: the latency model, "streaming" or "window".
        ticks: ticks until the answer: the network's latency in time steps.
    """

    output: Any
    readout: Any
    readout_ticks: tuple[int, ...]
    layers: Mapping[str, LayerRecord]
    adapters: tuple[Adapter, ...]
    latency: Latency
    ticks: int


def simulate(
    network: fx.GraphModule,
    inputs: Sequence[Tensor | tuple[Tensor, ...]],
    *,
    record: RecordRequest = (),
    latency: Latency = "streaming",
    schedule: Schedule = "layer",
    events: bool = False,
    watcher: SynapseWatcher | None = None,
) -> Simulation:
    """Runs a spiking graph in time.

    Args:
        network: the spiking graph.
        inputs: one image batch [N, ...] (a tuple of all inputs where there are several), or the event frames
            of every step.
        record: what to keep, see :class:`~snnconvert.engines.recording.Recorder`.
        latency: see :func:`~snnconvert.engines.timeline.infer_timeline`.
        schedule: "layer": every layer runs its whole window before the next; "tick": every tick runs through
            the whole network. The results are the same.
        events: whether the inputs are event frames.
        watcher: is shown every synapse's window; with schedule "layer" only.

    Raises:
        ConfigurationError: on an unknown latency model, schedule or quantity, or a layer that isn't there.
        ConversionError: if a synapse would read anything but spikes of its code.
    """
    if schedule not in get_args(Schedule):
        raise ConfigurationError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
    neurons = neuron_layers(network)
    recorder = Recorder(record, [layer for layer, _ in neurons.values()])
    timeline = infer_timeline(network, latency, len(inputs) if events else None)
    assembly = Assembly(network, timeline, None if recorder.is_idle else recorder, watcher)
    entering = [item if isinstance(item, tuple) else (item,) for item in inputs]
    with torch.no_grad():
        if schedule == "layer":
            answers = run_layers(network, timeline, assembly, entering)
        else:
            answers = [
                answer for answer in run_ticks(network, timeline, assembly, iter(entering)) if answer is not None
            ]
    return Simulation(
        output=answers[-1] if isinstance(answers[-1], Tensor) else tuple(answers[-1]),
        readout=_stacked(answers),
        readout_ticks=tuple(range(timeline.ticks - len(answers), timeline.ticks)),
        layers={
            layer: recorder.record(layer, neuron.code, timeline.courses[name].start)
            for name, (layer, neuron) in neurons.items()
        },
        adapters=timeline.adapters,
        latency=latency,
        ticks=timeline.ticks,
    )


def stream(network: fx.GraphModule, frames: Iterator[Tensor], steps: int, latency: Latency) -> Iterator[Answer | None]:
    """Feeds event frames one by one; see :func:`~snnconvert.engines.schedules.run_ticks`."""
    timeline = infer_timeline(network, latency, steps)
    with torch.no_grad():
        yield from run_ticks(network, timeline, Assembly(network, timeline, None), ((frame,) for frame in frames))


def _stacked(answers: Sequence[Answer]) -> Tensor | tuple[Tensor, ...]:
    """Answers one after the other as one tensor [K, ...], or one of each output."""
    tensors = [answer for answer in answers if isinstance(answer, Tensor)]
    if len(tensors) == len(answers):
        return torch.stack(tensors)
    return tuple(torch.stack(list(each)) for each in zip(*answers, strict=True))


def neuron_layers(network: fx.GraphModule) -> dict[str, tuple[str, SpikingNeuron]]:
    """Layer name and module of each neuron node, by node name; in the order of the graph."""
    modules = {node.name: str(node.target) for node in network.graph.nodes}
    found: dict[str, tuple[str, SpikingNeuron]] = {}
    for name, layer in layer_names(network).items():
        module = network.get_submodule(modules[name])
        assert isinstance(module, SpikingNeuron)
        found[name] = (layer, module)
    return found


def is_exact(network: fx.GraphModule) -> bool:
    """Whether every neuron's closed form is what it fires in time, so that the packed pass is exact."""
    return all(neuron.code.exact for _, neuron in neuron_layers(network).values())


def timeline_of(network: fx.GraphModule, latency: Latency = "streaming") -> Timeline:
    """The timeline of a still input."""
    return infer_timeline(network, latency)
