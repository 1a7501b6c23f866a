"""The headline: what was converted, how much it kept, and what it costs."""

from __future__ import annotations

from snnconvert.energy.comparison import EnergyAccount, ModelResult
from snnconvert.energy.cost import Network
from snnconvert.energy.twin import TwinModel
from snnconvert.errors import ArtifactError
from snnconvert.report.schema import Metric, ReportData
from snnconvert.report.statistics import proportion_ci95
from snnconvert.report.view.numbers import ABSENT, cost, count, decimal, percent, points, ratio, short, times
from snnconvert.report.view.parts import Fact


def title_of(report: ReportData) -> str:
    """The network's name."""
    return report.model or "A converted network"


def subtitle_of(report: ReportData) -> str:
    """What was converted, and to what."""
    config = report.config
    weights = f"{report.weights} weights; " if report.weights else ""
    allocated = " at most, allocated layer by layer" if report.allocation is not None else ""
    images = report.calibration_images
    calibrated = f"calibrated on {images:,} images" if images else "calibrated without images"
    bits, steps = _window(report)
    return (
        f"{weights}{config.get('neuron', 'packed')} neurons, {config.get('weight_bits')}-bit weights, "
        f"{bits}-bit spikes in {steps} time steps{allocated}; {calibrated}"
    )


def _window(report: ReportData) -> tuple[int | None, int | None]:
    """Bits of a spike and time steps: those of all layers behind the input if they agree, else the general ones."""
    windows = {(layer.spike_bits, layer.T) for layer in report.layers if not layer.reads_input}
    return windows.pop() if len(windows) == 1 else (report.config.get("bits"), report.config.get("T"))


def facts(report: ReportData) -> tuple[Fact, ...]:
    """The figures of the headline."""
    kept = (_agreement(report),) if report.metric is None else (_metric(report.metric),)
    return (*kept, _fidelity(report), _budget(report), _coverage(report), _energy(report.energy))


def headline_model(account: EnergyAccount) -> ModelResult:
    """The twin model's result.

    Raises:
        ArtifactError: if the report has none.
    """
    found = next((item for item in account.models if item.model == TwinModel.name), None)
    if found is None:
        raise ArtifactError("the report has no energies of the twin model: give hardware to compute them again")
    return found


def energy_sentences(report: ReportData) -> tuple[str, ...]:
    """One or two sentences on energy, with the model's and the hardware's name."""
    sentences = headline_model(report.energy).verdict
    return tuple(sentences[index] for index in (0, 2) if index < len(sentences))


def _metric(metric: Metric) -> Fact:
    is_accuracy = metric.name == "top1"
    interval = ""
    if metric.difference_ci95 is not None:
        low, high = metric.difference_ci95
        interval = f", 95 % interval {points(low)} to {points(high)}"
    notes = [f"{points(metric.snn - metric.ann)} points{interval} on {metric.images:,} images"]
    if is_accuracy:
        notes.append(f"of each alone {_interval(metric.ann, metric.images)} and {_interval(metric.snn, metric.images)}")
    name = "Accuracy" if is_accuracy else metric.name
    return Fact(f"{name}, ANN → SNN", f"{percent(metric.ann, 2)} → {percent(metric.snn, 2)}", "; ".join(notes))


def _agreement(report: ReportData) -> Fact:
    fidelity = report.fidelity
    if fidelity.top1_agreement is None:
        return Fact("Decisions that are the ANN's", ABSENT, "it isn't clear which output holds the decisions")
    return Fact(
        "Decisions that are the ANN's",
        percent(fidelity.top1_agreement, 2),
        f"95 % interval {_interval(fidelity.top1_agreement, fidelity.images)} on {fidelity.images:,} images "
        f"({fidelity.measured_on}); there are no labels to tell accuracy",
    )


def _fidelity(report: ReportData) -> Fact:
    fidelity = report.fidelity
    sqnr = ABSENT if fidelity.logit_sqnr_db is None else f"{decimal(fidelity.logit_sqnr_db, 1)} dB"
    same = ""
    if report.metric is not None and fidelity.top1_agreement is not None:
        same = f"; {percent(fidelity.top1_agreement, 2)} of decisions are the ANN's"
    note = f"signal-to-quantization-noise ratio of the outputs on {fidelity.images:,} images{same}"
    return Fact("Output SQNR", sqnr, note)


def _budget(report: ReportData) -> Fact:
    totals = report.totals
    return Fact(
        "Mean bit budget",
        short(totals.bit_budget),
        f"b_w × b_s × T, weighted by multiply-accumulates; largest {short(totals.largest_bit_budget)}",
    )


def _coverage(report: ReportData) -> Fact:
    totals = report.totals
    note = f"of {count(totals.macs)} multiply-accumulates an image"
    if totals.analog_macs:
        note += f"; {count(totals.analog_macs)} stay analog"
    return Fact("Work done on spikes", percent(report.coverage.macs_on_spikes, 2), note)


def _energy(account: EnergyAccount) -> Fact:
    result = headline_model(account)
    costs = {name: item.total for name, item in result.totals.items()}
    twin, serial, packed = (
        costs[network.value] for network in (Network.TWIN_QNN, Network.SNN_SERIAL, Network.SNN_PACKED)
    )
    return Fact(
        "Energy, against the twin QNN",
        times(ratio(serial, twin)),
        f"bit by bit, {cost(serial, result.unit)} an image; packed {times(ratio(packed, twin))}. "
        f"Model: {result.title}; hardware: {account.hardware}",
    )


def _interval(share: float, images: int) -> str:
    low, high = proportion_ci95(round(share * images), max(images, 1))
    return f"{percent(low, 2)} to {percent(high, 2)}"
