"""The report of a network after training: what its spikes and thresholds have become."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor, fx

from snnconvert.calibration.reconstruction.blocks import source_of
from snnconvert.convert.plan import SynapsePlan
from snnconvert.energy.comparison import compare_energy
from snnconvert.energy.profile import load_profile
from snnconvert.neurons.activity import Activity
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.report.effort import spike_statistics
from snnconvert.report.layer_account import totals_of, workload_of
from snnconvert.report.report import Report
from snnconvert.report.schema import Fidelity, LayerReport, NeuronReport
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.activities import measure_activities, read_neurons

_NOT_MEASURED = Fidelity(None, None, 0, "not measured after training")


def remeasured(snn: SpikingModel, sample: Sequence[Tensor], *notes: str) -> Report:
    """The network's report with rates, sparsities, effort, energies and thresholds as they are now.

    What compared it with the ANN, layer by layer or as a whole, is left out: it no longer holds.

    Args:
        snn: the network, in evaluation mode.
        sample: the tensors of one call.
        notes: added to the report's.
    """
    report = snn.report
    activities = measure_activities(snn.network, sample)
    steps = _steps(snn.network)
    layers = tuple(
        _layer(layer, plan, activities, steps) for layer, plan in zip(report.layers, snn.plan.synapses, strict=True)
    )
    totals = totals_of(
        layers,
        report.analog,
        ann_operations=report.totals.ann_operations,
        integer_operations=report.totals.integer_operations,
    )
    return dataclasses.replace(
        report,
        metric=None,
        fidelity=_NOT_MEASURED,
        layers=layers,
        totals=totals,
        energy=compare_energy(workload_of(layers, report.analog, totals), load_profile()),
        neurons=tuple(_neurons(item, layers) for item in report.neurons),
        notes=(*report.notes, *notes),
    )


def _layer(
    layer: LayerReport, plan: SynapsePlan, activities: Mapping[str, Activity], steps: Mapping[str, float]
) -> LayerReport:
    statistics = spike_statistics(activities[plan.node])
    step = steps[plan.node]
    return dataclasses.replace(
        layer,
        firing_rate=statistics.firing_rate,
        spikes_per_neuron=statistics.spikes_per_neuron,
        word_sparsity=statistics.word_sparsity,
        bit_sparsity=statistics.bit_sparsity,
        ns_ace=layer.s_ace * statistics.firing_rate,
        synops=layer.macs * layer.T * statistics.firing_rate,
        accumulates=layer.macs * layer.T * layer.spike_bits * (1 - statistics.bit_sparsity),
        word_macs=layer.macs * (1 - statistics.word_sparsity),
        threshold=layer.threshold * step / layer.step,
        step=step,
        sqnr_db=None,
    )


def _steps(network: fx.GraphModule) -> dict[str, float]:
    """Δ of the spikes each synapse reads, by its node in the ANN's graph."""
    found: dict[str, float] = {}
    for node in network.graph.nodes:
        neurons: SpikingNeuron | None = read_neurons(node) if node.op == "call_module" and node.args else None
        if neurons is not None:
            found[source_of(node)] = float(neurons.step.double().max())
    return found


def _neurons(item: NeuronReport, layers: Sequence[LayerReport]) -> NeuronReport:
    """The same neurons with the step that their readers were found to read."""
    step = next((layer.step for layer in layers if layer.name in item.layers), item.step)
    factor = step / item.step
    return dataclasses.replace(
        item, low=item.low * factor, high=item.high * factor, step=step, finest_step=item.finest_step * factor,
        clipped=None,
    )  # fmt: skip
