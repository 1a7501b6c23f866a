"""Every trained network at every bit budget, with intervals: ``python -m benchmarks.accuracy``.

What is in the file of ``--json`` isn't measured again, so that a run can be done in parts. A table says so if its rows
come from several states of the sources; delete the file to measure anew.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.accuracy_targets import target_of
from benchmarks.config_options import positive
from benchmarks.markdown import table_lines
from benchmarks.network_options import finish_page, network_parser, networks_with_data, stored_row
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.row_store import Row, RowStore
from benchmarks.setting import Setting
from benchmarks.trained.networks import NETWORKS
from snnconvert.config import ConversionConfig
from snnconvert.errors import ConfigurationError, first_line
from snnconvert.version import __version__

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
    rows = [
        judged(_row(name, setting, config, options.images, store), options.target_bb or setting.bit_budget)
        for name in networks_with_data(options.networks)
        for setting, config in configs.items()
    ]
    cells = [_cells(row) for row in rows]
    emit()
    emit_table(HEADER, cells)
    own = ["--settings", *map(str, options.settings)] if options.settings != list(LADDER) else []
    finish_page("accuracy", options, rows, own, table_lines(HEADER, cells))
    emit_json({"benchmark": "accuracy", "version": __version__, "torch": torch.__version__, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = network_parser("accuracy", __doc__)
    parser.add_argument("--settings", type=Setting.parse, nargs="+", default=list(LADDER), metavar="b_w/b_s/T")
    parser.add_argument("--target-bb", type=positive, metavar="BB", help="whose targets hold; by default the setting's")
    return parser


def _row(name: str, setting: Setting, config: ConversionConfig, images: int | None, store: RowStore) -> Row:
    """The row of one network at one setting, from the store if it is there."""
    identity = {"network": name, "setting": str(setting), "config": config.to_dict(), "images": images}
    network = NETWORKS[name]
    return stored_row(store, identity, f"{name} {setting}", lambda: network.row(network.measure(images, config)))


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


if __name__ == "__main__":
    main()
