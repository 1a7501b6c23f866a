"""What neurons encode: small pictures of the values that calibration saw, with the range of their spikes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from snnconvert.report.schema import NeuronReport, ReportData
from snnconvert.report.text import shortened
from snnconvert.report.view.numbers import digits, percent

WIDTH, HEIGHT = 160, 44
_LONGEST_NAME = 20
_MOST_ASIDE = 40


@dataclass(frozen=True)
class NeuronView:
    """Neurons of one layer, drawn in a box of WIDTH × HEIGHT.

    Attributes:
        name: the layer's.
        short: the same with fewer letters.
        readers: the layers that read them.
        code: in words.
        path: outline of the histogram, as SVG path data; "" without one.
        left: where the range of spikes begins.
        width: how wide it is.
        before: percent of the box before that range ...
        behind: ... and behind it.
        low: the smallest value of that range.
        high: the largest one.
        step: what one integer step stands for.
        clipped: how much is clipped.
    """

    name: str
    short: str
    readers: str
    code: str
    path: str
    left: str
    width: str
    before: int
    behind: int
    low: str
    high: str
    step: str
    clipped: str


def neuron_views(report: ReportData) -> tuple[NeuronView, ...]:
    """All neurons that a synapse reads."""
    return tuple(_view(item) for item in report.neurons)


def _view(item: NeuronReport) -> NeuronView:
    first, last = item.edges
    start, end = (min(first, item.low), max(last, item.high)) if item.histogram else (item.low, item.high)
    scale = WIDTH / (end - start) if end > start else 0.0
    finest = f" to {digits(item.finest_step)} in {item.channels:,} channels" if item.channels > 1 else ""
    return NeuronView(
        name=item.name,
        short=shortened(item.name, _LONGEST_NAME),
        readers=", ".join(item.layers),
        code=item.code,
        path=_outline(item.histogram, (first - start) * scale, (last - first) * scale),
        left=_place((item.low - start) * scale),
        width=_place((item.high - item.low) * scale),
        before=_percent((item.low - start) * scale),
        behind=_percent((end - item.high) * scale),
        low=digits(item.low),
        high=digits(item.high),
        step=f"step {digits(item.step)}{finest}",
        clipped="" if item.clipped is None else f"{percent(item.clipped, 2)} clipped",
    )


def _outline(shares: Sequence[float], left: float, width: float) -> str:
    """A staircase, as high as the square root of each bin's share."""
    largest = max(shares, default=0.0)
    if not largest or width <= 0:
        return ""
    step = width / len(shares)
    tops = [HEIGHT * (1 - math.sqrt(share / largest)) for share in shares]
    stairs = "".join(f"V{_place(top)}H{_place(left + step * (index + 1))}" for index, top in enumerate(tops))
    return f"M{_place(left)} {HEIGHT}{stairs}V{HEIGHT}Z"


def _percent(places: float) -> int:
    """Of the box, as far as the texts between leave room."""
    return min(round(100 * places / WIDTH), _MOST_ASIDE)


def _place(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
