"""``snnconvert search MODEL``: accuracy against bit budget, with widths allocated layer by layer and uniform ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from snnconvert.allocation.pareto import ParetoPoint
from snnconvert.cli.arguments import (
    OneLineParser,
    add_conversion,
    add_data,
    add_machine,
    add_model,
    add_weights,
)
from snnconvert.cli.convert_command import (
    emit_json,
    folder_name,
    image_loader,
    image_sets,
    say,
    settled,
)
from snnconvert.errors import InputError
from snnconvert.models.source import load_model
from snnconvert.pareto_search import search
from snnconvert.plots.canvas import save_figure
from snnconvert.plots.pareto import pareto_curve
from snnconvert.report.text import format_table

_BUDGETS = (64.0, 32.0, 16.0, 12.0, 8.0)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert search``."""
    parser = OneLineParser(
        prog="snnconvert search",
        description="Allocate the widths of every layer at several bit budgets, and compare with uniform widths.",
        epilog="Writes pareto.json point by point, so that a run that was stopped goes on where it was, and "
        "pareto.png. The last line on stdout is one JSON object.",
    )
    add_model(parser)
    add_conversion(parser.add_argument_group("conversion"))
    add_weights(parser.add_argument_group("weights"))
    add_data(parser.add_argument_group("images"))
    group = parser.add_argument_group("run and output")
    group.add_argument(
        "--budgets", type=float, nargs="+", default=list(_BUDGETS), metavar="BB",
        help="mean bit budgets (default 64 32 16 12 8)",
    )  # fmt: skip
    group.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder of the results (default: pareto-MODEL)")
    group.add_argument("--force", action="store_true", help="replace results of another network or other settings")
    add_machine(group)
    group.add_argument("-q", "--quiet", action="store_true", help="no tables and no progress bar: only the last line")
    return parser


def run(options: argparse.Namespace) -> None:
    """Searches from parsed options.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    config, device = settled(options)
    target = options.out if options.out is not None else Path(f"pareto-{folder_name(options.model)}")
    _check_output(target)
    loaded = load_model(
        options.model,
        checkpoint=options.checkpoint,
        random_weights=options.random_weights,
        num_classes=options.num_classes,
        image_size=options.image_size,
        seed=options.seed,
    )
    images = image_sets(options, loaded)
    about = {"model": loaded.name, "weights": loaded.weights, "data": images.description, "seed": options.seed}
    points = search(
        loaded.module.to(device),
        image_loader(images.calibration, options),
        options.budgets,
        config,
        evaluation=_Evaluation(images.evaluation, options),
        out=target,
        about=about,
        force=options.force,
        progress=not options.quiet,
    )
    save_figure(pareto_curve(points, loaded.name), target / "pareto.png")
    say(options, f"{_table(points)}\n\nwritten to {target}\n")
    emit_json({"schema": "snnconvert.search/1", **about, "points": [_summary(point) for point in points]})
    sys.stdout.flush()


def _check_output(target: Path) -> None:
    """Refuses, before any work, a folder that is none."""
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} exists and is not a folder: choose another output folder")


class _Evaluation:
    """The evaluation images, batch by batch, as often as they are asked for."""

    def __init__(self, dataset: Any, options: argparse.Namespace) -> None:
        self._dataset, self._options = dataset, options

    def __iter__(self) -> Any:
        loader = image_loader(self._dataset, self._options)
        hidden = True if self._options.quiet else None
        for index, (inputs, labels) in enumerate(
            tqdm(loader, desc="evaluating", unit="batch", disable=hidden, leave=False)
        ):
            if not isinstance(inputs, Tensor) or not torch.isfinite(inputs).all():
                raise InputError(f"evaluation batch {index} holds NaN or Inf")
            yield inputs, labels


def _summary(point: ParetoPoint) -> dict[str, Any]:
    return {
        "budget": point.budget,
        "kind": point.kind,
        "setting": point.setting,
        "bit_budget": point.bit_budget,
        "ann": None if point.metric is None else point.metric.ann,
        "snn": None if point.metric is None else point.metric.snn,
        "top1_agreement": point.top1_agreement,
        "logit_sqnr_db": point.logit_sqnr_db,
    }


def _table(points: list[ParetoPoint]) -> str:
    headers = ["budget", "widths", "BB", "accuracy", "agreement", "SQNR dB"]
    return format_table(headers, [_row(point) for point in points], left=2)


def _row(point: ParetoPoint) -> list[str]:
    return [
        f"{point.budget:g}",
        point.setting or point.kind,
        f"{point.bit_budget:.4g}",
        "-" if point.metric is None else f"{point.metric.snn:.2%}",
        "-" if point.top1_agreement is None else f"{point.top1_agreement:.2%}",
        "-" if point.logit_sqnr_db is None else f"{point.logit_sqnr_db:.1f}",
    ]
