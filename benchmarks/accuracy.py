"""Every trained network at every bit budget, with intervals: ``python -m benchmarks.accuracy``.

What is in the file of ``--json`` isn't measured again, so that a run can be done in parts. A table says so if its rows
come from several states of the sources; delete the file to measure anew.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.accuracy_targets import difference, target_of
from benchmarks.config_options import add_field_option, field_arguments, positive
from benchmarks.markdown import replace_block, table_lines
from benchmarks.real_data import VARIABLE, data_folder, emit, emit_json, emit_table
from benchmarks.row_store import Row, RowStore
from benchmarks.setting import Setting
from benchmarks.sources import package_hash
from benchmarks.trained import camvid, cifar, face_detector, fastest_det, mnist, mobilenet, sorting_gpt
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.errors import ConfigurationError, SnnConvertError, first_line
from snnconvert.version import __version__


@dataclass(frozen=True)
class Network:
    """One network to measure.

    Attributes:
        measure: its metric before and after a conversion, of so many images at most.
        data: the folder it needs.
        dense: whether its metric judges dense outputs, whose losses are counted relatively.
    """

    measure: Callable[[int | None, ConversionConfig | None], Result]
    data: str
    dense: bool = False


NETWORKS = {
    "resnet20": Network(partial(cifar.measure, 20), "cifar10"),
    "resnet44": Network(partial(cifar.measure, 44), "cifar10"),
    "mobilenetv2": Network(mobilenet.measure, "imagenet"),
    "fastestdet": Network(fastest_det.measure, "detection", dense=True),
    "faces": Network(face_detector.measure, "detection", dense=True),
    "camvid": Network(camvid.measure, "camvid", dense=True),
    "mnist": Network(mnist.measure, "mnist"),
    "gpt": Network(sorting_gpt.measure, "gpt_nano_sort"),
}
LADDER = tuple(Setting(*bits) for bits in ((8, 2, 4), (8, 1, 4), (4, 2, 4), (4, 1, 4), (4, 1, 3), (4, 1, 2)))
HEADER = (
    "network",
    "metric",
    "b_w/b_s/T",
    "mean BB",
    "ANN %",
    "SNN %",
    "difference",
    "95 % interval",
    "seconds",
    "target",
)
_IDENTITY = ("network", "setting", "config", "images")
_BLOCK = "accuracy"
_MIXED = "The rows come from several states of the sources."


def main(arguments: list[str] | None = None) -> None:
    """Measures every network at every setting and writes a table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        configs = {setting: setting.config(dict(options.set)) for setting in options.settings}
        store = RowStore("accuracy", _IDENTITY, options.json)
    except (ConfigurationError, ValueError) as error:
        parser.error(first_line(error))
    networks = [name for name in options.networks if _has_data(name)]
    rows = [
        judged(_row(name, setting, config, options.images, store), options.target_bb or setting.bit_budget)
        for name in networks
        for setting, config in configs.items()
    ]
    cells = [_cells(row) for row in rows]
    emit()
    emit_table(HEADER, cells)
    caption = [_caption(options), *([_MIXED] if len({row.get("sources") for row in rows}) > 1 else [])]
    for line in caption[1:]:
        emit(line)
    if options.markdown:
        replace_block(options.markdown, options.block, [*caption, "", *table_lines(HEADER, cells)])
    emit_json({"benchmark": "accuracy", "version": __version__, "torch": torch.__version__, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--settings", type=Setting.parse, nargs="+", default=list(LADDER), metavar="b_w/b_s/T")
    add_field_option(parser)
    parser.add_argument("--target-bb", type=positive, metavar="BB", help="whose targets hold; by default the setting's")
    parser.add_argument("--images", type=positive, help="how many images or sequences at most; all by default")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows here; those already there stay")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table into this page")
    parser.add_argument("--block", default=_BLOCK, metavar="NAME", help="the page's block of the table (%(default)s)")
    return parser


def _has_data(name: str) -> bool:
    folder = NETWORKS[name].data
    if data_folder(folder) is not None:
        return True
    emit(f"{name} is left out: no {folder} data; set {VARIABLE} to the folder that holds {folder}/")
    return False


def _row(name: str, setting: Setting, config: ConversionConfig, images: int | None, store: RowStore) -> Row:
    """The row of one network at one setting, from the store if it is there."""
    identity = {"network": name, "setting": str(setting), "config": config.to_dict(), "images": images}
    kept = store.find(identity)
    if kept is not None and "error" not in kept:
        emit(f"{name} {setting}: kept")
        return kept
    try:
        row = {**identity, "sources": package_hash(), **measured_row(name, NETWORKS[name].measure(images, config))}
    except SnnConvertError as error:
        row = {**identity, "error": first_line(error)}
    store.add(row)
    emit(f"{name} {setting}: {row.get('error', 'done')}")
    return row


def measured_row(name: str, result: Result) -> Row:
    """What the JSON file holds of one result, but for what it was asked for.

    Args:
        name: the network's.
        result: what was measured.
    """
    dense = NETWORKS[name].dense
    interval = result.relative_ci95 if dense else result.difference_ci95
    return {
        "metric": result.metric,
        "samples": result.samples,
        "calibration": result.calibration,
        "bit_budget": result.report.totals.bit_budget,
        "ann": result.ann,
        "snn": result.snn,
        "difference": difference(result.ann, result.snn, relative=dense),
        "unit": "%" if dense else "points",
        "ci95": None if interval is None else [100 * end for end in interval],
        "seconds": result.conversion_seconds,
        "notes": list(result.report.notes),
        "details": result.details,
    }


def judged(row: Row, bit_budget: int) -> Row:
    """The row with its target and whether it is met, None where there is no target.

    Args:
        row: what was measured, or why it wasn't.
        bit_budget: whose target holds.
    """
    target = target_of(row["network"], bit_budget, relative=NETWORKS[row["network"]].dense)
    if target is None or "error" in row:
        return {**row, "target": None, "target_met": None}
    return {**row, "target": str(target), "target_met": target.is_met(row["ann"], row["snn"])}


def _cells(row: Row) -> list[str]:
    if "error" in row:
        return [row["network"], "", row["setting"], "", "", "", row["error"], "", "", ""]
    target = "" if row["target"] is None else f"{row['target']}: {'met' if row['target_met'] else 'missed'}"
    return [
        row["network"],
        row["metric"],
        row["setting"],
        f"{row['bit_budget']:.1f}",
        f"{100 * row['ann']:.1f}",
        f"{100 * row['snn']:.1f}",
        f"{row['difference']:+.2f} {row['unit']}",
        "" if row["ci95"] is None else "{:+.2f} .. {:+.2f}".format(*row["ci95"]),
        f"{row['seconds']:.0f}",
        target,
    ]


def _caption(options: argparse.Namespace) -> str:
    """The command that gives the table, and what it ran on."""
    words = ["python", "-m", "benchmarks.accuracy"]
    words += ["--networks", *options.networks] if options.networks != list(NETWORKS) else []
    words += ["--settings", *map(str, options.settings)] if options.settings != list(LADDER) else []
    words += field_arguments(options.set)
    words += ["--images", str(options.images)] if options.images else []
    return f"`{shlex.join(words)}`, torch {torch.__version__}:"


if __name__ == "__main__":
    main()
