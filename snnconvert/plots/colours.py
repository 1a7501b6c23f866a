"""Colours of spikes: orange for positive, blue for negative, the darker the larger; safe for the colour-blind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snnconvert.palette import GREY
from snnconvert.plots.canvas import LABEL, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Extent = tuple[float, float, float, float]
_NEGATIVE = ("#08306B", "#2171B5", "#9ECAE1")
_POSITIVE = ("#FDBE85", "#E6550D", "#7F2704")
_MOST_LEVELS = 16


class Palette(NamedTuple):
    """How the spikes of one picture are coloured.

    Attributes:
        colours: the colour map.
        norm: from what :func:`place` gives to the colour map.
        levels: the spikes that have a colour of their own, ascending; none if colours are proportional.
        largest: magnitude of the darkest spike.
        ticks: where the colour bar is labelled; none for binary spikes.
        labels: its labels.
    """

    colours: Colormap
    norm: Normalize
    levels: tuple[int, ...]
    largest: int
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def palette_of(values: NDArray[np.int16], *, relative: bool = False) -> Palette:
    """Colours for the spikes that occur: one for each while they are few, proportional to the spike beyond.

    Args:
        values: the spikes that occur, zero aside.
        relative: proportional anyway; labels then are shares of the largest spike.
    """
    levels = tuple(sorted({int(value) for value in values} - {0}))
    if levels in ((), (1,)):
        return _listed((1,), ())
    if not relative and len(levels) <= _MOST_LEVELS:
        return _listed(levels, tuple(signed(level) for level in levels))
    return _proportional(levels, relative=relative)


def place(spikes: NDArray[np.int16], palette: Palette, largest: int | None = None) -> NDArray[np.float64]:
    """Spikes as numbers on the palette's scale, NaN where there is none.

    Args:
        spikes: of any shape.
        palette: the palette.
        largest: magnitude that is darkest, if colours are proportional; the palette's own by default.
    """
    if palette.levels:
        shades = np.searchsorted(np.array(palette.levels), spikes).astype(np.float64)
    else:
        shades = spikes / (palette.largest if largest is None else largest)
    return np.where(spikes == 0, np.nan, shades)


def show_cells(axes: Axes, shades: NDArray[np.float64], palette: Palette, extent: Extent) -> AxesImage:
    """Draws [rows, columns] cells upwards from the extent's bottom (left, right, bottom, top)."""
    return axes.imshow(
        shades,
        cmap=palette.colours,
        norm=palette.norm,
        extent=extent,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        zorder=2,
    )


def add_colour_bar(figure: Figure, axes: Axes, palette: Palette, label: str) -> None:
    """A colour bar beside the axes; none for binary spikes, which have one colour."""
    from matplotlib.cm import ScalarMappable

    if not palette.ticks:
        return
    mappable = ScalarMappable(norm=palette.norm, cmap=palette.colours)
    bar = figure.colorbar(mappable, ax=axes, ticks=list(palette.ticks), fraction=0.04, pad=0.015, aspect=30)
    bar.ax.set_yticklabels(list(palette.labels), fontsize=SMALL)
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=LABEL)
    bar.outline.set_edgecolor(GREY)


def signed(value: float) -> str:
    """A number with a typographic minus."""
    return f"{value:g}".replace("-", "−")


def _listed(levels: tuple[int, ...], labels: tuple[str, ...]) -> Palette:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    sizes = sorted({abs(level) for level in levels})
    shares = [(sizes.index(abs(level)) + 1) / len(sizes) for level in levels]
    colours = [_ramp(level < 0)(share) for level, share in zip(levels, shares, strict=True)]
    boundaries = [index - 0.5 for index in range(len(levels) + 1)]
    norm = BoundaryNorm(boundaries, len(levels)) if len(levels) > 1 else _plain(-0.5, 0.5)
    return Palette(ListedColormap(colours), norm, levels, sizes[-1], tuple(range(len(labels))), labels)


def _proportional(levels: Sequence[int], *, relative: bool) -> Palette:
    from matplotlib.colors import LinearSegmentedColormap

    largest, low = max(abs(level) for level in levels), -1 if levels[0] < 0 else 0
    colours = list(_POSITIVE)
    if low < 0:
        places = (0.0, 0.25, 0.4999, 0.5001, 0.75, 1.0)
        mapped = LinearSegmentedColormap.from_list("spikes", list(zip(places, (*_NEGATIVE, *_POSITIVE), strict=True)))
    else:
        mapped = LinearSegmentedColormap.from_list("spikes", colours)
    ticks = tuple(tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if tick >= low)
    labels = tuple(signed(tick if relative else round(tick * largest)) for tick in ticks)
    return Palette(mapped, _plain(low, 1), (), largest, ticks, labels)


def _ramp(negative: bool) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("spikes", list(reversed(_NEGATIVE)) if negative else list(_POSITIVE))


def _plain(low: float, high: float) -> Normalize:
    from matplotlib.colors import Normalize

    return Normalize(low, high)
