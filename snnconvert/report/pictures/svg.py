"""Figures as inline SVG: text stays text, colours become variables, the same figure gives the same bytes."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from snnconvert.report.pictures.colours import VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font: (?:[a-z]+ |\d+ )?([\d.]+px) [^;\"]*(?=[;\"])")
_FAMILY = re.compile(r" ?font-family: [^;\"]*;?")
_STYLE = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_GENERATED_ID = re.compile(r' id="[A-Za-z.]+(?:2d)?_\d+"')
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_TIP = re.compile(r'<g id="(tip-\d+)">')


def inline_svg(figure: Figure, name: str, label: str, tips: Mapping[str, str] | None = None) -> str:
    """An ``<svg>`` element to put into a page.

    Args:
        figure: the picture, with colours of :mod:`snnconvert.report.pictures.colours` or :mod:`snnconvert.palette`.
        name: the picture's own; no other of the same page has it.
        label: what it shows, for those who can't see it.
        tips: texts that appear over artists, by gid ("tip-0", …).
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=_METADATA, transparent=True)
    text = buffer.getvalue()
    size = _SIZE.search(text)
    assert size is not None, "matplotlib gives every figure a viewBox"
    body = text[text.index("<defs") : text.rindex("</svg>")]
    return _opening(size[1], size[2], label) + _own(body, tips or {}) + "</svg>"


def _opening(width: str, height: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}pt" height="{height}pt" role="img" '
        f'aria-label="{html.escape(label)}">'
    )


def _own(body: str, tips: Mapping[str, str]) -> str:
    body = _STYLE.sub("", body).replace("xlink:href", "href")
    body = _TIP.sub(lambda found: f"<g><title>{html.escape(tips.get(found[1], ''))}</title>", body)
    body = _GENERATED_ID.sub("", body)
    body = _FAMILY.sub("", _FONT.sub(r"font-size: \1", body))
    body = _COLOUR.sub(lambda found: _variable(found[0]), body)
    return re.sub(r"\n\s*", "\n", body)


def _variable(colour: str) -> str:
    name = VARIABLES.get(colour)
    return colour if name is None else f"var(--{name})"
