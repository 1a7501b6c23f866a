"""Accuracy of converted CIFAR-10 ResNets with real weights: ``python -m benchmarks.cifar10``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from benchmarks.setting import Setting
from snnconvert.config import ROUNDING_METHODS
from snnconvert.conversion import convert_whole
from snnconvert.evaluation import compare


@dataclass(frozen=True)
class Target:
    """What a setting should reach: accuracy lost in points, and agreement as a fraction."""

    lost_points: float
    agreement: float | None = None

    def __str__(self) -> str:
        agreement = "" if self.agreement is None else f", agreement >= {self.agreement:.0%}"
        return f"within {self.lost_points:g} points{agreement}"

    def is_met(self, row: dict[str, Any]) -> bool:
        """Whether a row of results reaches it."""
        enough = self.agreement is None or row["agreement"] >= self.agreement
        return bool(enough and row["ann"] - row["snn"] <= self.lost_points / 100 + 1e-9)


_ALL_DEPTHS = (20, 44)
_BATCH = 100
_DEFAULT = (Setting(8, 2, 4), Setting(8, 1, 4), Setting(4, 1, 4))
_TARGETS = {
    **{(depth, _DEFAULT[0]): Target(0.3, 0.99) for depth in _ALL_DEPTHS},
    **{(depth, _DEFAULT[1]): Target(1.0) for depth in _ALL_DEPTHS},
    (20, _DEFAULT[2]): Target(2.0),
}


def main(arguments: list[str] | None = None) -> None:
    """Converts and evaluates every network at every setting."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    rows = []
    for depth in options.depths:
        for row in _rows_of(folder, depth, options):
            rows.append(row)
            emit(f"resnet{depth} {row['setting']} done")
    emit()
    _emit_rows(rows)
    calibrated_on = options.calibration_images if options.calib == "data" else 0
    emit_json({"benchmark": "cifar10", "calibration_images": calibrated_on, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.cifar10", description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", choices=_ALL_DEPTHS, default=list(_ALL_DEPTHS))
    parser.add_argument("--settings", type=Setting.parse, nargs="+", default=list(_DEFAULT))
    parser.add_argument("--calib", choices=("data", "none"), default="data", help="none: on synthesized images")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--weight-rounding", choices=ROUNDING_METHODS, default="nearest")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _rows_of(folder: Path, depth: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    ann = load_cifar_resnet(folder, depth)
    training, _ = load_cifar_images(folder, "train", options.calibration_images)
    calibration = training if options.calib == "data" else snnconvert.NoData(training[:1])
    images, labels = load_cifar_images(folder, "test", options.test_images)
    rows = []
    for setting in options.settings:
        config = setting.config({"weight_rounding": options.weight_rounding})
        snn = convert_whole(ann, calibration, config, progress=False)
        rows.append(_measured(ann, snn, depth, setting, images, labels))
    return rows


def _measured(
    ann: nn.Module, snn: snnconvert.SpikingModel, depth: int, setting: Setting, images: Tensor, labels: Tensor
) -> dict[str, Any]:
    batches = [(images[i : i + _BATCH], labels[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    evaluation = compare(ann, snn, batches)
    metric, fidelity = evaluation.metric(), evaluation.fidelity("test images")
    row = {
        "model": f"resnet{depth}",
        "setting": str(setting),
        "images": metric.images,
        "ann": metric.ann,
        "snn": metric.snn,
        "difference_ci95": metric.difference_ci95,
        "agreement": fidelity.top1_agreement,
        "logit_sqnr_db": fidelity.logit_sqnr_db,
        "bit_budget": snn.report.totals.bit_budget,
    }
    target = _TARGETS.get((depth, setting))
    return {**row, "target": target and str(target), "target_met": target and target.is_met(row)}


def _emit_rows(rows: list[dict[str, Any]]) -> None:
    header = (
        "model",
        "b_w/b_s/T",
        "ANN %",
        "SNN %",
        "95 % CI (points)",
        "agree %",
        "SQNR dB",
        "BB",
        "target",
    )
    emit_table(header, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row["difference_ci95"]
    verdict = "" if row["target"] is None else f"{row['target']}: {'met' if row['target_met'] else 'MISSED'}"
    sqnr = row["logit_sqnr_db"]
    return [
        row["model"],
        row["setting"],
        f"{100 * row['ann']:.1f}",
        f"{100 * row['snn']:.1f}",
        f"{100 * low:+.2f} .. {100 * high:+.2f}",
        f"{100 * row['agreement']:.1f}",
        "-" if sqnr is None else f"{sqnr:.1f}",
        f"{row['bit_budget']:.1f}",
        verdict,
    ]


if __name__ == "__main__":
    main()
