"""Colours of pictures inside pages, each standing for a variable of the page's style sheet."""

from __future__ import annotations

from snnconvert.palette import BLUE, GREEN, GREY, ORANGE, PALE

INK, PAPER, MUTED, LINE = "#101112", "#fefdfc", "#606162", "#d0d1d2"
COMPONENTS = {
    "compute": "#0101f1",
    "weights": "#0101f2",
    "activations": "#0101f3",
    "state": "#0101f4",
    "movement": "#0101f5",
}
ACCENT, SECOND = "#0101f6", "#0101f7"

VARIABLES = {
    INK: "ink",
    PAPER: "paper",
    MUTED: "muted",
    LINE: "line",
    ACCENT: "accent",
    SECOND: "second",
    "#000000": "ink",
    "#ffffff": "paper",
    "#e0e0e0": "line",
    PALE.lower(): "line",
    GREY.lower(): "muted",
    BLUE.lower(): "accent",
    ORANGE.lower(): "second",
    GREEN.lower(): "c-activations",
    **{colour: f"c-{name}" for name, colour in COMPONENTS.items()},
}
