"""``snnconvert compare A B``: two conversions side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from snnconvert.artifact.atomic import replaced_file
from snnconvert.cli.arguments import OneLineParser
from snnconvert.cli.saved_report import FILE_NAME, add_hardware, profile_from, read_report
from snnconvert.errors import InputError
from snnconvert.report.comparison import Comparison, compare_reports
from snnconvert.report.comparison_text import comparison_markdown, comparison_page, comparison_text

_WRITERS: dict[str, Callable[[Comparison], str]] = {
    "text": lambda comparison: comparison_text(comparison) + "\n",
    "md": comparison_markdown,
    "html": comparison_page,
    "json": lambda comparison: _json(comparison) + "\n",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert compare``."""
    parser = OneLineParser(
        prog="snnconvert compare",
        description="Compare the reports of two conversions: accuracy, budgets, energy, and the layers that differ.",
        epilog="Of two accuracies one is better only where their 95 %% intervals don't meet. The last line on stdout "
        "is one JSON object: the comparison, layers included with --format json.",
    )
    parser.add_argument("first", type=Path, help="folder of a converted network, or its report.json")
    parser.add_argument("second", type=Path, help="another one")
    parser.add_argument("--format", choices=list(_WRITERS), default="text", help="(default %(default)s)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="write to a file instead of stdout; html needs one"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    add_hardware(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Compares two reports.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    if options.format == "html" and options.out is None:
        raise InputError("--format html needs a file: give one with -o FILE")
    profile = profile_from(options)
    first, second = read_report(options.first, profile), read_report(options.second, profile)
    comparison = compare_reports(first, second, _names(options.first, options.second))
    if options.out is not None:
        with replaced_file(options.out, force=options.force) as file:
            file.write_text(_WRITERS[options.format](comparison), encoding="utf-8")
    elif options.format != "json":
        sys.stdout.write(_WRITERS[options.format](comparison) + "\n")
    sys.stdout.write((_json(comparison) if options.format == "json" else json.dumps(comparison.summary())) + "\n")


def _json(comparison: Comparison) -> str:
    return json.dumps(comparison.to_dict(), allow_nan=False)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' names, or their paths where these are the same."""
    folders = [path.parent if path.name == FILE_NAME else path for path in (first, second)]
    names = [folder.resolve().name for folder in folders]
    return (names[0], names[1]) if names[0] != names[1] else (str(folders[0]), str(folders[1]))
