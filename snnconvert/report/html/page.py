"""The page of a report: from its view to one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from snnconvert.energy.comparison import EnergyAccount
from snnconvert.report.html.pictures import energy_picture, layer_pictures
from snnconvert.report.html.rendering import render
from snnconvert.report.schema import ReportData
from snnconvert.report.view.energies import COMPONENTS, model_views, totals_by_model
from snnconvert.report.view.glossary import GLOSSARY
from snnconvert.report.view.hardware import shipped_profile
from snnconvert.report.view.headline import energy_sentences, facts, subtitle_of, title_of
from snnconvert.report.view.layers import layer_table
from snnconvert.report.view.neurons import HEIGHT, WIDTH, neuron_views
from snnconvert.report.view.parts import Curve
from snnconvert.report.view.remainder import allocation_sentence, allocation_table, analog_groups
from snnconvert.report.view.reproduce import command_line
from snnconvert.report.view.totals import totals_table


def report_page(report: ReportData, curves: Sequence[Curve] = ()) -> str:
    """The report as one HTML page; the same report gives the same text.

    Args:
        report: the report.
        curves: what was measured apart from the conversion.
    """
    return render(
        "report.html.jinja",
        title=title_of(report),
        subtitle=subtitle_of(report),
        facts=facts(report),
        sentences=energy_sentences(report),
        notes=report.notes,
        totals=totals_table(report.totals),
        **_energy(report.energy),
        layers=layer_table(report),
        pictures=layer_pictures(report),
        neurons=neuron_views(report),
        box=(WIDTH, HEIGHT),
        analog=analog_groups(report),
        analog_count=len(report.analog),
        allocation=None if report.allocation is None else allocation_table(report.allocation),
        allocation_text="" if report.allocation is None else allocation_sentence(report.allocation),
        curves=[(curve, Markup(curve.svg)) for curve in curves],
        **_origin(report),
        glossary=GLOSSARY,
    )


def _energy(account: EnergyAccount) -> dict[str, Any]:
    shipped = shipped_profile(account)
    return {
        "hardware": account.hardware,
        "hardware_description": "" if shipped is None else shipped[1].description.strip(),
        "constants": account.constants,
        "totals_by_model": totals_by_model(account),
        "models": model_views(account),
        "energy_pictures": {item.model: energy_picture(item) for item in account.models},
        "components": COMPONENTS,
    }


def _origin(report: ReportData) -> dict[str, Any]:
    return {
        "data": report.data,
        "preprocessing": _indented(report.preprocessing) if report.preprocessing else "",
        "command": command_line(report),
        "config": _indented(report.config),
        "versions": report.versions,
    }


def _indented(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
