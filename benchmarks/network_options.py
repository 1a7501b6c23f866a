"""Options of benchmarks that measure trained networks row by row, and what they do with them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from benchmarks.config_options import add_field_option, field_arguments, positive
from benchmarks.markdown import replace_block
from benchmarks.real_data import VARIABLE, data_folder, emit
from benchmarks.row_store import Row, RowStore
from benchmarks.sources import package_hash
from benchmarks.trained.networks import NETWORKS
from snnconvert.errors import SnnConvertError, first_line

MIXED = "The rows come from several states of the sources."


def network_parser(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with what all these benchmarks take.

    Args:
        benchmark: the benchmark's name, which the block of its page bears, too.
        description: what it does.
    """
    parser = argparse.ArgumentParser(
        prog=f"benchmarks.{benchmark}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    add_field_option(parser)
    parser.add_argument("--images", type=positive, help="how many images or sequences at most; all by default")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows here; those already there stay")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table into this page")
    parser.add_argument(
        "--block", default=benchmark, metavar="NAME", help="the page's block of the table (%(default)s)"
    )
    return parser


def networks_with_data(names: Iterable[str]) -> list[str]:
    """Those of the networks whose data is there; says which aren't."""
    found = []
    for name in names:
        folder = NETWORKS[name].data
        if data_folder(folder) is None:
            emit(f"{name} is left out: no {folder} data; set {VARIABLE} to the folder that holds {folder}/")
        else:
            found.append(name)
    return found


def stored_row(store: RowStore, identity: Row, label: str, measured: Callable[[], Row]) -> Row:
    """A row from the store if it is there and no failure, else measured and stored.

    Args:
        store: the rows so far.
        identity: what tells the row apart.
        label: how it is called while the benchmark runs.
        measured: gives its other fields; a failure of the package becomes a row, too.
    """
    kept = store.find(identity)
    if kept is not None and "error" not in kept:
        emit(f"{label}: kept")
        return kept
    try:
        row = {**identity, "sources": package_hash(), **measured()}
    except SnnConvertError as error:
        row = {**identity, "error": first_line(error)}
    store.add(row)
    emit(f"{label}: {row.get('error', 'done')}")
    return row


def finish_page(
    benchmark: str, options: argparse.Namespace, rows: Iterable[Row], extra: list[str], table: Sequence[str]
) -> None:
    """Says if rows come from several states of the sources, and writes the page if there is one to write.

    Args:
        benchmark: the benchmark's name.
        options: what it was told.
        rows: all of them.
        extra: the arguments that are its own.
        table: the page's lines below the command.
    """
    mixed = [MIXED] if len({row.get("sources") for row in rows}) > 1 else []
    for line in mixed:
        emit(line)
    if options.markdown:
        replace_block(options.markdown, options.block, [_caption(benchmark, options, extra), *mixed, "", *table])


def _caption(benchmark: str, options: argparse.Namespace, extra: list[str]) -> str:
    """The command that gives the table, and what it ran on."""
    words = ["python", "-m", f"benchmarks.{benchmark}"]
    words += ["--networks", *options.networks] if options.networks != list(NETWORKS) else []
    words += [*extra, *field_arguments(options.set)]
    words += ["--images", str(options.images)] if options.images else []
    return f"`{shlex.join(words)}`, torch {torch.__version__}:"
