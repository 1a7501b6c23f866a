"""Rasters: which neurons fire at which tick, of one layer or of the whole network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snnconvert.engines.stepwise import Simulation
from snnconvert.palette import GREEN, PALE
from snnconvert.plots.canvas import LABEL, SMALL, TITLE, new_figure, percent, show_ticks, tidy
from snnconvert.plots.colours import Palette, add_colour_bar, palette_of, place, show_cells
from snnconvert.plots.recorded import (
    code_text,
    evenly_spaced,
    record_of,
    recorded_layers,
    spikes_of,
    train_of,
    values_in,
)
from snnconvert.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 0.15
_INCHES_A_LAYER = 0.155


def spike_raster(simulation: Simulation, layer: str, *, sample: int = 0, neurons: int = 100) -> Figure:
    """One layer's spikes of one sample: ticks to the right, neurons upwards, colour by the spike's value.

    Args:
        simulation: with the layer's spikes recorded.
        layer: its name.
        sample: which of the N samples.
        neurons: how many neurons to show, evenly spaced over the layer.

    Raises:
        InputError: if the layer or the sample isn't there, or its spikes weren't recorded.
    """
    spikes, record = spikes_of(simulation, layer), record_of(simulation, layer)
    train = train_of(spikes, sample)
    figure = new_figure()
    axes: Axes = figure.subplots()
    chosen = evenly_spaced(train.shape[1], neurons)
    palette = palette_of(values_in(spikes))
    last = record.start + len(train) - 1
    extent = (record.start - 0.5, last + 0.5, -0.5, len(chosen) - 0.5)
    axes.set_facecolor(PALE)
    show_cells(axes, place(train[:, chosen].T, palette), palette, extent)
    show_ticks(axes, record.start, last)
    _name_rows(axes, chosen, train.shape[1])
    tidy(axes)
    add_colour_bar(figure, axes, palette, "spike")
    rate = percent(float((train != 0).mean()))
    title = f"{shortened(layer, 60)}\n{code_text(record.code, len(train))}; firing rate {rate} in sample {sample}"
    axes.set_title(title, fontsize=TITLE, loc="left")
    return figure


def network_raster(simulation: Simulation, sample: int = 0, neurons_per_layer: int = 20) -> Figure:
    """All recorded layers over the ticks of the network, the first at the top: how an answer travels through it.

    A layer's window is shaded; spikes are coloured by their share of the layer's largest spike. The bar
    below the last layer marks the ticks at which the network's answer can be read out.

    Args:
        simulation: with spikes recorded.
        sample: which of the N samples.
        neurons_per_layer: how many neurons of each layer to show, evenly spaced.

    Raises:
        InputError: if no spikes were recorded, or the sample isn't there.
    """
    layers = recorded_layers(simulation)
    figure = new_figure(height=max(4.0, 0.75 + _INCHES_A_LAYER * (len(layers) + 1)))
    axes: Axes = figure.subplots()
    values = {layer: values_in(spikes) for layer, spikes in layers.items()}
    palette = palette_of(np.concatenate(list(values.values())), relative=True)
    rates = []
    for row, (layer, spikes) in enumerate(layers.items()):
        train = train_of(spikes, sample)
        chosen = evenly_spaced(train.shape[1], neurons_per_layer)
        cells = place(train[:, chosen].T, palette, int(np.abs(values[layer]).max(initial=1)))
        _show_band(axes, row, simulation.layers[layer].start, cells, palette)
        rates.append(percent(float((train != 0).mean())))
    _show_readout(axes, len(layers), simulation.readout_ticks)
    show_ticks(axes, 0, simulation.ticks - 1)
    _name_bands(axes, [*(shortened(layer, 26) for layer in layers), "readout"], [*rates, ""])
    add_colour_bar(figure, axes, palette, "spike / largest spike of the layer")
    title = (
        f"Sample {sample}, {simulation.latency} latency: {simulation.ticks} ticks through {len(layers)} neuron layers"
    )
    axes.set_title(title, fontsize=TITLE, loc="right")
    return figure


def _name_rows(axes: Axes, chosen: NDArray[np.int64], count: int) -> None:
    """Labels a few rows with the neurons they show."""
    rows = evenly_spaced(len(chosen), 6)
    axes.set_yticks(rows.tolist(), [str(chosen[row]) for row in rows])
    shown = f"{len(chosen)} of {count}, evenly spaced" if len(chosen) < count else f"all {count}"
    axes.set_ylabel(f"neuron ({shown})", fontsize=LABEL)


def _show_band(axes: Axes, row: int, start: int, cells: NDArray[np.float64], palette: Palette) -> None:
    left, right, bottom, top = start - 0.5, start + cells.shape[1] - 0.5, row + _GAP / 2, row + 1 - _GAP / 2
    axes.fill_between([left, right], bottom, top, color=PALE, linewidth=0)
    show_cells(axes, cells, palette, (left, right, bottom, top))


def _show_readout(axes: Axes, row: int, ticks: tuple[int, ...]) -> None:
    axes.fill_between([ticks[0] - 0.5, ticks[-1] + 0.5], row + 0.3, row + 0.7, color=GREEN, linewidth=0)


def _name_bands(axes: Axes, names: list[str], rates: list[str]) -> None:
    """Names on the left, firing rates on the right, the first layer at the top."""
    middles = [row + 0.5 for row in range(len(names))]
    axes.set_ylim(len(names), 0)
    axes.set_yticks(middles, names)
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(middles, rates)
    right.tick_params(length=0, labelsize=SMALL)
    right.set_ylabel("firing rate", fontsize=LABEL)
    right.spines["right"].set_visible(False)
