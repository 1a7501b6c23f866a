"""``snnconvert report FOLDER``: a conversion's report as a page, as text, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from snnconvert.allocation.pareto import read_pareto
from snnconvert.artifact.atomic import replaced_file
from snnconvert.cli.arguments import OneLineParser
from snnconvert.cli.saved_report import add_hardware, profile_from, read_report
from snnconvert.in_time import read_anytime_curve
from snnconvert.pareto_search import FILE_NAME
from snnconvert.plots.page_curves import search_curve, time_curve
from snnconvert.report.html.page import report_page
from snnconvert.report.markdown import markdown_text
from snnconvert.report.report import Report
from snnconvert.report.rows import csv_text
from snnconvert.report.view.parts import Curve

SCHEMA = "snnconvert.written/1"
_Writer = Callable[[Report, Sequence[Curve]], str]
_WRITERS: dict[str, _Writer] = {
    "html": report_page,
    "md": markdown_text,
    "csv": lambda report, _: csv_text(report),
    "json": lambda report, _: report.json_text(),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert report``."""
    parser = OneLineParser(
        prog="snnconvert report",
        description="Write a conversion's report: as one HTML file that needs no network, as Markdown, as one CSV row "
        "a layer, or as JSON.",
        epilog="The last line on stdout is one JSON object that names the file.",
    )
    parser.add_argument("network", type=Path, help="folder of a converted network, or its report.json")
    parser.add_argument("--format", choices=list(_WRITERS), default="html", help="(default %(default)s)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="the file (default: report.FORMAT in the folder)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    add_hardware(parser)
    parser.add_argument(
        "--search", type=Path, metavar="DIR", help="folder of snnconvert search: its curve goes into html and md"
    )
    parser.add_argument(
        "--simulation", type=Path, metavar="JSON",
        help="what snnconvert simulate printed, or its last line: accuracy in time goes into html and md",
    )  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> None:
    """Writes a report.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    report = read_report(options.network, profile_from(options))
    folder = options.network if options.network.is_dir() else options.network.parent
    target = options.out if options.out is not None else folder / f"report.{options.format}"
    with replaced_file(target, force=options.force) as file:
        text = _WRITERS[options.format](report, _curves(report, options)).encode()
        file.write_bytes(text)
    written = {"file": str(target), "format": options.format, "bytes": len(text)}
    line = {"schema": SCHEMA, **written, "model": report.model, "hardware": report.energy.hardware}
    sys.stdout.write(json.dumps(line, allow_nan=False) + "\n")


def _curves(report: Report, options: argparse.Namespace) -> list[Curve]:
    curves = []
    if options.search is not None:
        path = options.search / FILE_NAME if options.search.is_dir() else options.search
        curves.append(search_curve(read_pareto(path)))
    if options.simulation is not None:
        ann = None if report.metric is None else report.metric.ann
        curves.append(time_curve(read_anytime_curve(options.simulation), ann))
    return curves
