"""Detectors and segmenters on procedural scenes, before and after conversion: ``python -m benchmarks.scenes``.

Nothing is downloaded: scenes are rendered, the trained networks come with the package. Needs the extra ``tasks``.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.config_options import positive
from benchmarks.markdown import replace_block, table_lines
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.scene_networks import SCENE_NETWORKS, mean_bit_budget
from snnconvert.config import ConversionConfig
from snnconvert.data.scenes import CALIBRATION_SEED, HELD_OUT_SEED, SCENE_SIZE, Scene, Scenes
from snnconvert.effort import EFFORTS
from snnconvert.spiking_model import SpikingModel
from snnconvert.version import __version__

Row = dict[str, Any]

_BB16: Mapping[str, Any] = {"weight_bits": 4, "bits": 1, "T": 4}
_BY_CHANNEL = ConversionConfig(**_BB16, **EFFORTS["fast"], budget=16, weight_granularity="channel")
SETTINGS: Mapping[str, ConversionConfig] = {
    "8/2/4": ConversionConfig(weight_bits=8, bits=2, T=4),
    "4/1/4 fast": ConversionConfig(**_BB16, **EFFORTS["fast"]),
    "4/1/4 balanced": ConversionConfig(**_BB16, **EFFORTS["balanced"]),
    "budget 16 fast": ConversionConfig(**_BB16, **EFFORTS["fast"], budget=16),
    "budget 16 channels": _BY_CHANNEL,
    "budget 16 tuned": _BY_CHANNEL,
}
TUNED = frozenset({"budget 16 tuned"})
LOSSES = {name: 1.0 if name == "8/2/4" else 4.0 for name in SETTINGS}
METRICS = {"map": "mAP", "map_50": "mAP50", "miou": "mIoU"}
HEADER = ("network", "setting", "mean BB", "metric", "ANN %", "SNN %", "change %", "seconds", "target")


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts every network at every setting, judges it on held-out scenes and writes a table."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    for row in _rows(options):
        rows.append(row)
        emit(f"{row['network']} {row['setting']} {METRICS[row['metric']]}: {row['ann']:.4f} {row['snn']:.4f}")
    cells = [_cells(row) for row in rows]
    emit()
    emit_table(HEADER, cells)
    if options.markdown:
        replace_block(options.markdown, options.block, [_caption(options), "", *table_lines(HEADER, cells)])
    emit_json({"benchmark": "scenes", "version": __version__, "torch": torch.__version__, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.scenes", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(SCENE_NETWORKS), default=list(SCENE_NETWORKS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--scenes", type=positive, default=300, help="held-out scenes (%(default)s)")
    parser.add_argument("--calibration-scenes", type=positive, default=128, help="others (%(default)s)")
    parser.add_argument(
        "--training-scenes", type=positive, default=1000, help="that tuned networks see, without labels (%(default)s)"
    )
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table into this page")
    parser.add_argument("--block", default="scenes", metavar="NAME", help="the page's block (%(default)s)")
    return parser


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    others = max(options.calibration_scenes, options.training_scenes if TUNED & set(options.settings) else 0)
    images = Scenes(others, SCENE_SIZE, CALIBRATION_SEED).images()
    held_out = list(Scenes(options.scenes, SCENE_SIZE, HELD_OUT_SEED))
    for name in options.networks:
        network = SCENE_NETWORKS[name]
        ann = network.load()
        before = network.scores(ann, held_out)
        for setting in options.settings:
            yield from _measured(name, setting, before, images, held_out, options)


def _measured(
    name: str,
    setting: str,
    before: Mapping[str, float],
    images: torch.Tensor,
    held_out: Sequence[Scene],
    options: argparse.Namespace,
) -> list[Row]:
    """A row for each metric of one network at one setting."""
    network = SCENE_NETWORKS[name]
    ann, calibration = network.load(), images[: options.calibration_scenes]
    whole, snn, seconds = network.converted(ann, calibration, SETTINGS[setting])
    if setting in TUNED:
        if not isinstance(snn, SpikingModel):
            emit(f"{name} {setting}: left out, networks that are converted in parts aren't fine-tuned")
            return []
        whole, snn, more = network.tuned(ann, snn, images[: options.training_scenes])
        seconds += more
    after = network.scores(whole, held_out)
    shared = {
        "network": name,
        "setting": setting,
        "bit_budget": mean_bit_budget(snn),
        "seconds": seconds,
        "scenes": len(held_out),
        "calibration_scenes": len(calibration),
    }
    return [
        judged({**shared, "metric": metric, "ann": before[metric], "snn": after[metric]}, LOSSES[setting])
        for metric in after
    ]


def judged(row: Row, percent: float) -> Row:
    """The row with its relative change in percent, and whether at most so many percent are lost.

    Args:
        row: with "ann" and "snn".
        percent: the target.
    """
    change = 100 * (row["snn"] / row["ann"] - 1)
    return {**row, "change_percent": change, "target_percent": percent, "target_met": change >= -percent}


def _cells(row: Row) -> list[str]:
    return [
        row["network"],
        row["setting"],
        f"{row['bit_budget']:.1f}",
        METRICS[row["metric"]],
        f"{100 * row['ann']:.1f}",
        f"{100 * row['snn']:.1f}",
        f"{row['change_percent']:+.2f}",
        f"{row['seconds']:.0f}",
        f"within {row['target_percent']:g} %: {'met' if row['target_met'] else 'missed'}",
    ]


def _caption(options: argparse.Namespace) -> str:
    """The command that gives the table, and what it ran on."""
    words = ["python", "-m", "benchmarks.scenes"]
    words += ["--networks", *options.networks] if options.networks != list(SCENE_NETWORKS) else []
    words += ["--settings", *options.settings] if options.settings != list(SETTINGS) else []
    words += ["--scenes", str(options.scenes), "--calibration-scenes", str(options.calibration_scenes)]
    words += ["--training-scenes", str(options.training_scenes)] if TUNED & set(options.settings) else []
    return f"`{shlex.join(words)}`, torch {torch.__version__}:"


if __name__ == "__main__":
    main()
