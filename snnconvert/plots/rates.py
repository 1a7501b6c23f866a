"""Firing rates: how often the neurons of each layer fire."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.engines.stepwise import Simulation
from snnconvert.palette import BLUE, ORANGE
from snnconvert.plots.canvas import LABEL, SMALL, TITLE, new_figure, percent, tidy
from snnconvert.plots.recorded import recorded_layers
from snnconvert.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 40
_INCHES_A_LAYER = 0.155
_HEIGHT = 0.8


def rate_histogram(simulation: Simulation, layers: Collection[str] | None = None) -> Figure:
    """Histograms of the neurons' firing rates, a row a layer, and each layer's mean rate.

    A neuron's firing rate is the share of its steps, over all samples, in which it fires.

    Args:
        simulation: with spikes recorded.
        layers: names of the layers to show; None for all that were recorded.

    Raises:
        InputError: if a layer isn't there, or its spikes weren't recorded.
    """
    rates = {layer: _rates(spikes) for layer, spikes in recorded_layers(simulation, layers).items()}
    figure = new_figure(height=max(4.0, 0.75 + _INCHES_A_LAYER * len(rates)))
    axes: Axes = figure.subplots()
    highest = max(float(values.max()) for values in rates.values()) or 1.0
    for row, values in enumerate(rates.values()):
        _show_row(axes, len(rates) - 1 - row, values, highest)
    axes.set_xlim(0, 100 * highest)
    axes.set_ylim(0, len(rates))
    axes.set_xlabel("firing rate of a neuron (% of its time steps)", fontsize=LABEL)
    _name_rows(axes, rates)
    axes.set_title(_title(simulation), fontsize=TITLE, loc="right")
    return figure


def _rates(spikes: Tensor) -> NDArray[np.float64]:
    """Share of non-zero spikes of each neuron, [neurons]."""
    rates: NDArray[np.float64] = (spikes != 0).flatten(2).double().mean((0, 1)).numpy()
    return rates


def _show_row(axes: Axes, bottom: int, rates: NDArray[np.float64], highest: float) -> None:
    counts, edges = np.histogram(100 * rates, bins=_BINS, range=(0, 100 * highest))
    axes.stairs(bottom + _HEIGHT * counts / counts.max(), edges, baseline=bottom, fill=True, color=BLUE, alpha=0.75)
    mean = 100 * float(rates.mean())
    axes.plot([mean, mean], [bottom, bottom + 0.92], color=ORANGE, linewidth=1.6, solid_capstyle="butt")


def _name_rows(axes: Axes, rates: dict[str, NDArray[np.float64]]) -> None:
    middles = [len(rates) - 1 - row + 0.4 for row in range(len(rates))]
    axes.set_yticks(middles, [shortened(layer, 26) for layer in rates])
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    axes.hlines(range(len(rates)), 0, 100, color="#BFBFBF", linewidth=0.5, zorder=0)
    means = axes.secondary_yaxis("right")
    means.set_yticks(middles, [percent(float(values.mean())) for values in rates.values()])
    means.tick_params(length=0, labelsize=SMALL, labelcolor=ORANGE)
    means.set_ylabel("mean of the layer", fontsize=LABEL, color=ORANGE)
    means.spines["right"].set_visible(False)


def _title(simulation: Simulation) -> str:
    samples = max(record.samples for record in simulation.layers.values())
    return f"Firing rates over {samples} samples; each row scaled to its own peak"
