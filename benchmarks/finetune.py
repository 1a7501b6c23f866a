"""Accuracy of fine-tuned CIFAR-10 ResNets with real weights: ``python -m benchmarks.finetune``."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from benchmarks.setting import Setting
from snnconvert.evaluation import compare
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course

_DEPTHS = (20, 44)
_SETTINGS = (Setting(4, 1, 4), Setting(2, 1, 4), Setting(2, 1, 2))
_LOST = {16: 0.3, 8: 2.0, 4: 6.0}
_BATCH = 250
_CALIBRATION = 1024


def main(arguments: list[str] | None = None) -> None:
    """Converts at every setting, fine-tunes on the training images, and evaluates on the test images."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    rows = []
    for setting in options.settings:
        rows.append(_row(folder, options, setting))
        emit(f"resnet{options.depth} {setting} done: {rows[-1]['converted']:.3f} -> {rows[-1]['tuned']:.3f}")
    emit()
    header = ("b_w/b_s/T", "BB", "mean BB", "ANN %", "converted %", "fine-tuned %", "steps", "minutes", "target")
    emit_table(header, [_cells(row) for row in rows])
    emit_json({"benchmark": "finetune", "model": f"resnet{options.depth}", "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.finetune", description=__doc__)
    parser.add_argument("--depth", type=int, choices=_DEPTHS, default=20)
    parser.add_argument("--settings", type=Setting.parse, nargs="+", default=list(_SETTINGS))
    parser.add_argument("--reconstruction-steps", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--distillation", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--block-distillation", type=float, default=0.0)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _row(folder: Path, options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    ann = load_cifar_resnet(folder, options.depth)
    images, labels = load_cifar_images(folder, "train")
    fields = {"weight_rounding": "gptq", "reconstruction_steps": options.reconstruction_steps}
    snn = snnconvert.convert(ann, images[:_CALIBRATION], setting.config(fields), progress=False)
    assert isinstance(snn, snnconvert.SpikingModel)
    config = FinetuneConfig(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        distillation=options.distillation,
        temperature=options.temperature,
        block_distillation=options.block_distillation,
        ema=options.ema,
        augmentation="flip-crop",
        seed=options.seed,
    )
    start = time.perf_counter()
    tuned = finetune(snn, (images, labels), config, teacher=ann, course=Course(progress=True))
    minutes = (time.perf_counter() - start) / 60
    test = load_cifar_images(folder, "test")
    reference, converted = _accuracies(ann, snn, *test)
    _, trained = _accuracies(ann, tuned, *test)
    lost = _LOST.get(setting.bit_budget)
    return {
        "setting": str(setting),
        "bit_budget": setting.bit_budget,
        "mean_bit_budget": tuned.report.totals.bit_budget,
        "ann": reference,
        "converted": converted,
        "tuned": trained,
        "minutes": minutes,
        "steps": config.epochs * (len(images) // config.batch_size),
        "training": dataclasses.asdict(config),
        "target": lost,
        "target_met": None if lost is None else reference - trained <= lost / 100 + 1e-9,
    }


def _accuracies(ann: nn.Module, snn: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    batches = list(zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True))
    metric = compare(ann, snn, batches).metric()
    return metric.ann, metric.snn


def _cells(row: dict[str, Any]) -> list[str]:
    target = "" if row["target"] is None else f"-{row['target']:g}: {'met' if row['target_met'] else 'MISSED'}"
    return [
        row["setting"],
        str(row["bit_budget"]),
        f"{row['mean_bit_budget']:.1f}",
        f"{100 * row['ann']:.1f}",
        f"{100 * row['converted']:.1f}",
        f"{100 * row['tuned']:.1f}",
        str(row["steps"]),
        f"{row['minutes']:.0f}",
        target,
    ]


if __name__ == "__main__":
    main()
