"""Widths allocated layer by layer against uniform ones on every trained network: ``python -m benchmarks.allocation``.

Sensitivities are measured once for each network. Each uniform rival is compared with the mixed widths of its own mean
bit budget, and ten allocations are ranked by predicted and by measured error. Detectors are judged on the first fold of
their cross-validation. What is in the file of ``--json`` isn't measured again, so that a run can be done in parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import kendalltau

from benchmarks.allocation_rows import IDENTITY, KEPT, RANKED, RIVALS, Rows, measured_rows
from benchmarks.markdown import table_lines
from benchmarks.network_options import finish_page, network_parser, networks_with_data
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.row_store import Row, RowStore
from benchmarks.setting import Setting
from snnconvert.cli.entry import own_stdout
from snnconvert.errors import ConfigurationError, first_line
from snnconvert.version import __version__

DEFAULTS = {"weight_rounding": "gptq", "threshold_granularity": "smoothed"}
TARGET_TAU = 0.7
_WIDTHS = Setting(8, 1, 4)  # only T counts: the most time steps of a word
_HEADER = ("network", "allocation", "mean BB", "predicted", "measured", "ANN %", "SNN %", "difference", "95 % interval")
_PAIRS_HEADER = (
    "network", "metric", "ANN %",
    "uniform", "mean BB", "error", "SNN %",
    "layer by layer", "mean BB", "error", "SNN %",
)  # fmt: skip
_TAUS_HEADER = ("network", "errors on", "tau of errors", "tau of error and metric", "mixed better", "equal", "worse")


@dataclass(frozen=True)
class Comparison:
    """The allocations of one network.

    Attributes:
        network: its name.
        pairs: rows of the uniform rivals and of what was allocated at their mean bit budgets.
        tau_of_errors: Kendall's between predicted and measured errors of ten; None where it isn't defined.
        tau_of_metrics: the same between predicted errors and the metric, 1 where less error always is better.
    """

    network: str
    pairs: list[tuple[Row, Row]]
    tau_of_errors: float | None
    tau_of_metrics: float | None

    @classmethod
    def of(cls, rows: Rows) -> Comparison:
        """Of all rows of a network."""
        pairs = [(rows[rival], rows[KEPT[rival]]) for rival in RIVALS]
        ranked = [rows[planned] for planned in RANKED]
        predicted = [row["predicted"] for row in ranked]
        errors = _tau(predicted, [row["measured"] for row in ranked])
        metrics = _tau([-error for error in predicted], [row["snn"] for row in ranked])
        return cls(pairs[0][0]["network"], pairs, errors, metrics)

    @property
    def is_target_met(self) -> bool:
        """Whether errors are ranked well enough, and every mixed allocation beats its uniform rival's metric."""
        ranked_well = self.tau_of_errors is not None and self.tau_of_errors >= TARGET_TAU
        return ranked_well and all(mixed["snn"] > uniform["snn"] for uniform, mixed in self.pairs)

    def pair_cells(self) -> list[list[str]]:
        """Lines of the table of pairs."""
        return [
            [self.network, uniform["metric"], f"{100 * uniform['ann']:.1f}", *_side(uniform), *_side(mixed)]
            for uniform, mixed in self.pairs
        ]

    def tau_cells(self) -> list[str]:
        """The line of the table of taus, and of how many mixed allocations have a better, equal and worse metric."""
        taus = ["" if tau is None else f"{tau:.2f}" for tau in (self.tau_of_errors, self.tau_of_metrics)]
        gains = [mixed["snn"] - uniform["snn"] for uniform, mixed in self.pairs]
        counts = (sum(gain > 0 for gain in gains), gains.count(0), sum(gain < 0 for gain in gains))
        return [self.network, self.pairs[0][0]["measured_on"], *taus, *map(str, counts)]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            "network": self.network,
            "equal_budget": [{"uniform": uniform, "mixed": mixed} for uniform, mixed in self.pairs],
            "kendall_tau_error": self.tau_of_errors,
            "kendall_tau_metric": self.tau_of_metrics,
            "target_met": self.is_target_met,
        }


def main(arguments: list[str] | None = None) -> None:
    """Compares at equal mean bit budget, and ranks ten allocations."""
    parser = network_parser("allocation", __doc__)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        config = _WIDTHS.config({**DEFAULTS, **dict(options.set)})
        store = RowStore("allocation", IDENTITY, options.json)
    except (ConfigurationError, ValueError) as error:
        parser.error(first_line(error))
    names = networks_with_data(options.networks)
    measured = [measured_rows(name, config, options.images, store) for name in names]
    rows = [row for of_network in measured for row in of_network.values()]
    compared = [Comparison.of(of_network) for of_network in measured if not _has_failed(of_network)]
    emit()
    emit_table(_HEADER, [_cells(row) for row in rows])
    page: list[str] = []
    for header, cells in (
        (_PAIRS_HEADER, [line for item in compared for line in item.pair_cells()]),
        (_TAUS_HEADER, [item.tau_cells() for item in compared]),
    ):
        emit()
        emit_table(header, cells)
        page += [*([""] if page else []), *table_lines(header, cells)]
    finish_page("allocation", options, rows, [], page)
    about = {"benchmark": "allocation", "version": __version__, "torch": torch.__version__}
    emit_json({**about, "rows": rows, "networks": [item.to_dict() for item in compared]})


def _has_failed(rows: Rows) -> bool:
    return any("error" in row for row in rows.values())


def _tau(first: list[float], second: list[float]) -> float | None:
    """Kendall's tau; None where all values of either are equal."""
    tau = float(kendalltau(first, second).statistic)
    return None if math.isnan(tau) else tau


def _cells(row: Row) -> list[str]:
    if "error" in row:
        return [row["network"], row["allocation"], "", "", "", "", "", row["error"], ""]
    return [
        row["network"],
        row["allocation"],
        f"{row['bit_budget']:.2f}",
        f"{row['predicted']:.4g}",
        f"{row['measured']:.4g}",
        f"{100 * row['ann']:.1f}",
        f"{100 * row['snn']:.1f}",
        f"{row['difference']:+.2f} {row['unit']}",
        "" if row["ci95"] is None else "{:+.2f} .. {:+.2f}".format(*row["ci95"]),
    ]


def _side(row: Row) -> list[str]:
    """One allocation in the table of pairs."""
    name = row["allocation"].removeprefix("uniform ") if row["round"] is None else f"round {row['round']}"
    return [name, f"{row['bit_budget']:.2f}", f"{row['measured']:.2g}", f"{100 * row['snn']:.1f}"]


if __name__ == "__main__":
    own_stdout()
    main()
