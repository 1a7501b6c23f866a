"""A spiking network run in time: its accuracy, how often its neurons fire, and what that costs beside others."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import snnconvert
from snnconvert.energy.cost import Network
from snnconvert.energy.hierarchy import SpatialDataflow
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.twin import TwinModel
from snnconvert.energy.workload import LayerWork
from snnconvert.engines.stepwise import simulate
from snnconvert.engines.timeline import Latency
from snnconvert.neurons.activity import Activity, activity_of_trains
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

BATCH = 50
_PAPER_FAN_IN, _PAPER_DENSITY = 2395, 0.45


@dataclass(frozen=True)
class InTime:
    """What a network did step by step.

    Attributes:
        decisions: int64 [N].
        rate: spikes a step, over all neurons but those that fire on the input.
        layers: the work of each layer with weights, with the activity it was seen to read.
    """

    decisions: Tensor
    rate: float
    layers: tuple[LayerWork, ...]


@dataclass
class _Watcher:
    """Counts what each synapse reads."""

    bits: dict[str, int]
    seen: dict[str, list[Activity]] = field(default_factory=lambda: defaultdict(list))

    def integrated(self, source: str, synapse: Synapse, spikes: list[Tensor], current: Tensor) -> None:
        """Counts one window."""
        del synapse, current
        self.seen[source].append(activity_of_trains(torch.stack(spikes), self.bits[source]))

    def multiplied(self, source: str, product: Product, spikes: list[Tensor], current: Tensor) -> None:
        """There are no products of activations in the networks of this benchmark."""
        raise NotImplementedError(f"{source}: {product} of {len(spikes)} steps, {list(current.shape)}")


def run_in_time(snn: snnconvert.SpikingModel, images: Tensor, latency: Latency) -> InTime:
    """Runs a network step by step.

    Args:
        snn: the network.
        images: [N, 3, H, W].
        latency: see :meth:`snnconvert.SpikingModel.simulate`.
    """
    bits = {plan.node: layer.spike_bits for plan, layer in zip(snn.plan.synapses, snn.report.layers, strict=True)}
    watcher = _Watcher(bits)
    decisions, spikes, slots = [], 0, 0
    entering, _ = next(snn.neurons())
    for batch in torch.split(images, BATCH):
        run = simulate(snn.network, [(batch,)], record="counts", latency=latency, watcher=watcher)
        decisions.append(run.output.argmax(1))
        for name, record in run.layers.items():
            if name != entering and record.counts is not None:
                spikes += sum(record.counts)
                slots += record.neurons * record.samples * len(record.counts)
    works = snn.report.workload.layers[: len(snn.report.layers)]
    layers = [_seen(work, watcher.seen[plan.node]) for plan, work in zip(snn.plan.synapses, works, strict=True)]
    return InTime(torch.cat(decisions), spikes / slots, tuple(layers))


def _seen(work: LayerWork, seen: list[Activity]) -> LayerWork:
    windows = sum(item.windows for item in seen)
    return dataclasses.replace(
        work,
        firing_rate=sum(item.spikes for item in seen) / (windows * work.T),
        bit_density=sum(item.set_bits for item in seen) / (windows * work.planes),
        word_density=1 - sum(item.silent for item in seen) / windows,
    )


def closed_form_decisions(snn: snnconvert.SpikingModel, images: Tensor) -> Tensor:
    """Decisions of neurons that wait for their whole window, int64 [N], without running it step by step."""
    with torch.no_grad():
        return torch.cat([snn.network(batch).argmax(1) for batch in torch.split(images, BATCH)])


def ann_densities(ann: nn.Module, images: Tensor) -> dict[str, float]:
    """Share of the values that each convolution and linear layer of an ANN reads that aren't zero."""
    found: dict[str, list[float]] = defaultdict(list)
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: found[name].append(float((inputs[0] != 0).float().mean()))
        )
        for name, module in ann.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        ann(images)
    for hook in hooks:
        hook.remove()
    return {name: values[0] for name, values in found.items()}


def energy_ratios(layers: tuple[LayerWork, ...], densities: dict[str, float]) -> dict[str, float]:
    """Energy of the spiking network, spikes sent bit by bit, over that of others; of layers with weights alone.

    By spatial dataflow (Yan et al., version 1) over the ANN in 8 bits with its own share of zeros, and over the
    twin; by the twin model (later versions) over the twin.
    """
    spatial, beside = (
        SpatialDataflow(),
        [dataclasses.replace(layer, ann_density=densities[layer.name]) for layer in layers],
    )
    return {
        "8-bit ANN (spatial dataflow)": _total(spatial, beside, Network.SNN_SERIAL)
        / _total(spatial, beside, Network.ANN_INT8),
        "twin (spatial dataflow)": _total(spatial, layers, Network.SNN_SERIAL)
        / _total(spatial, layers, Network.TWIN_QNN),
        "twin (twin model)": _total(TwinModel(), layers, Network.SNN_SERIAL)
        / _total(TwinModel(), layers, Network.TWIN_QNN),
    }


def paper_ratio(rate: float, T: int) -> float:
    """E_SNN/E_ANN of spatial dataflow for a rate of binary spikes with the paper's VGG16: N = 2395, d = 0.45."""
    work = LayerWork(
        name="VGG16", macs=1, fan_in=_PAPER_FAN_IN, inputs=1, outputs=1, weights=1, weight_bits=8, spike_bits=1, T=T,
        levels=T + 1, firing_rate=rate, bit_density=rate, word_density=min(T * rate, 1.0), ann_density=_PAPER_DENSITY,
    )  # fmt: skip
    model = SpatialDataflow()
    return model.layer(work, Network.SNN_SERIAL).total / model.layer(work, Network.ANN_INT8).total


def _total(model: EnergyModel, layers: list[LayerWork] | tuple[LayerWork, ...], network: Network) -> float:
    return sum(model.layer(layer, network).total for layer in layers)
