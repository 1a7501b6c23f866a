"""Templates, style and script of pages, put together into one file."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from snnconvert.artifact.atomic import replaced_file

_FOLDER = "template"
_UNITS = re.compile(r"(?<=\d) (?=%|[pnµmkMGTPE]?J\b|[kMGTPE]\b|dB\b)")
_NO_BREAK = "\u00a0"


def render(template: str, **values: Any) -> str:
    """A template with values; whatever isn't :class:`Markup` is escaped.

    The page's policy lets the browser load nothing, and run no script but the page's own.

    Args:
        template: its file name.
        values: what it asks for.
    """
    loader = PackageLoader("snnconvert.report.html", _FOLDER)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kept_together"] = _kept_together
    script = _asset("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"style": Markup(_asset("page.css")), "script": Markup(script), "script_digest": digest}
    return environment.get_template(template).render(**shared, **values)


def write_page(path: str | Path, text: str) -> None:
    """Writes a page, whole or not at all; one that is there is replaced.

    Raises:
        InputError: if the file can't be written.
    """
    with replaced_file(Path(path)) as file:
        file.write_text(text, encoding="utf-8")


def _kept_together(text: str) -> str:
    """A text whose numbers aren't parted from their units."""
    return _UNITS.sub(_NO_BREAK, text)


def _asset(name: str) -> str:
    return (importlib.resources.files("snnconvert.report.html") / _FOLDER / name).read_text(encoding="utf-8")
