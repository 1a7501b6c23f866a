"""The pictures of a report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from snnconvert.energy.comparison import ModelResult
from snnconvert.energy.cost import Network
from snnconvert.report.pictures.energy_bars import energy_bars
from snnconvert.report.pictures.layer_bars import stacked_bars, value_bars
from snnconvert.report.pictures.svg import inline_svg
from snnconvert.report.schema import ReportData
from snnconvert.report.view.energies import NETWORKS
from snnconvert.report.view.layer_energy import layer_costs
from snnconvert.report.view.numbers import decimal, energy, percent, ratio, scale, times


@dataclass(frozen=True)
class Picture:
    """A picture with its heading, and what it shows."""

    title: str
    sentence: str
    svg: Markup
    stacked: bool = False


def energy_picture(result: ModelResult) -> Markup:
    """The five networks by one model, by component, with ratios to the twin."""
    twin = result.totals[Network.TWIN_QNN.value].total
    costs = {title: result.totals[name] for name, title in NETWORKS.items()}
    divisor, unit = scale(max(cost.total for cost in costs.values()), result.unit)
    labels = {title: times(ratio(cost.total, twin)) for title, cost in costs.items()}
    spoken = "; ".join(f"{title} {labels[title]} the twin" for title in costs)
    label = f"{result.title}: cost of five networks by component. {spoken}"
    return Markup(inline_svg(energy_bars(costs, labels, divisor, unit), f"energy-{result.model}", label))


def layer_pictures(report: ReportData) -> tuple[Picture, ...]:
    """Firing rate, SQNR and energy over the layers."""
    if not report.layers:
        return ()
    pictures = [_rates(report), _energies(report)]
    if any(layer.sqnr_db is not None for layer in report.layers):
        pictures.insert(1, _sqnr(report))
    return tuple(pictures)


def _rates(report: ReportData) -> Picture:
    shares = [layer.firing_rate for layer in report.layers]
    figure = value_bars([100 * share for share in shares], "%")
    return Picture(
        "Firing rate",
        "Share of the spikes a layer reads that are not zero.",
        Markup(
            inline_svg(figure, "rates", "Firing rate by layer", _tips(report, [percent(share) for share in shares]))
        ),
    )


def _sqnr(report: ReportData) -> Picture:
    values = [layer.sqnr_db for layer in report.layers]
    tips = _tips(report, [f"{decimal(value, 1)} dB" for value in values])
    return Picture(
        "SQNR",
        "Of a layer's output against the ANN's, what was lost before it included.",
        Markup(inline_svg(value_bars(values, "dB"), "sqnr", "SQNR by layer", tips)),
    )


def _energies(report: ReportData) -> Picture:
    costs = layer_costs(report)
    serial, twin = costs[Network.SNN_SERIAL], [cost.total for cost in costs[Network.TWIN_QNN]]
    divisor, unit = scale(max([*twin, *(cost.total for cost in serial)]), "pJ")
    tips = [f"{energy(cost.total)}, twin {energy(rival)}" for cost, rival in zip(serial, twin, strict=True)]
    figure = stacked_bars(serial, twin, divisor, unit)
    return Picture(
        "Energy",
        f"Twin model, {report.energy.hardware}: the SNN bit by bit by component; lines: its twin.",
        Markup(inline_svg(figure, "layer-energy", "Energy by layer and component", _tips(report, tips))),
        stacked=True,
    )


def _tips(report: ReportData, texts: Sequence[str]) -> dict[str, str]:
    named = zip(report.layers, texts, strict=True)
    return {f"tip-{index}": f"{index + 1}  {layer.name}: {text}" for index, (layer, text) in enumerate(named)}
