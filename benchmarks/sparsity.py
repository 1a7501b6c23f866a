"""Accuracy, firing and energy of a CIFAR-10 ResNet-20 trained for sparsity: ``python -m benchmarks.sparsity``.

The network has binary integrate-and-fire neurons and learns from the ANN alone, on mixed images. The baseline is
fine-tuned without a target; each target and each fixed penalty starts from the same conversion. Networks that are in
the folder already aren't trained again. Neurons wait for their whole window ("window" latency), which is what was
trained; what happens where they fire while they integrate is told beside it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from benchmarks.sparsity_runs import (
    ann_densities,
    closed_form_decisions,
    energy_ratios,
    paper_ratio,
    run_in_time,
)
from snnconvert.plots.canvas import save_figure
from snnconvert.plots.sparsity import SparsityPoint, sparsity_curve
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course

_CALIBRATION = 512
_WANTED, _LOST_POINTS = 0.93, 2.0
HEADER = (
    "network",
    "lambda",
    "accuracy %",
    "sparsity %",
    "E / ANN int8",
    "E / twin",
    "E / twin (twin model)",
    "E / ANN (paper's VGG16)",
    "streaming: accuracy %",
    "sparsity %",
    "minutes",
)


@dataclass(frozen=True)
class _Data:
    ann: torch.nn.Module
    training: tuple[Tensor, Tensor]
    images: Tensor
    labels: Tensor


def main(arguments: list[str] | None = None) -> None:
    """Trains and measures all networks."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    data = _Data(
        load_cifar_resnet(folder, 20),
        load_cifar_images(folder, "train"),
        *load_cifar_images(folder, "test"),
    )
    networks = []
    for name, config in _runs(options):
        networks.append((name, config, *_network(name, config, data, options)))
        emit(f"{name} trained")
    rows = []
    for name, config, snn, minutes in networks:
        rows.append({**_row(name, snn, data, options), **_trained(config), "minutes": minutes})
        emit(f"{name} measured: {rows[-1]['accuracy']:.3f} at {rows[-1]['sparsity']:.4f}")
    emit()
    emit_table(HEADER, [_cells(row) for row in rows])
    if options.picture:
        save_figure(sparsity_curve([_point(row) for row in rows], f"ResNet-20, T = {options.T}"), options.picture)
    emit_json({"benchmark": "sparsity", "T": options.T, "rows": rows, "target_met": _is_met(rows)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.sparsity", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the networks")
    parser.add_argument("--T", type=int, default=6)
    parser.add_argument("--targets", type=float, nargs="*", default=[0.936])
    parser.add_argument("--penalties", type=float, nargs="*", default=[])
    parser.add_argument("--baseline-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=72)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--block-distillation", type=float, default=2.0)
    parser.add_argument("--mixup", type=float, default=1.0)
    parser.add_argument("--step-images", type=int, default=200, help="images run step by step, in both latencies")
    parser.add_argument("--picture", type=Path, default=None, help=".png or .svg")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _runs(options: argparse.Namespace) -> list[tuple[str, FinetuneConfig]]:
    """Name and settings of each run."""
    common: dict[str, Any] = {
        "augmentation": "flip-crop", "gradients": "window", "batch_size": options.batch_size, "ema": 0.99,
        "learning_rate": options.learning_rate, "block_distillation": options.block_distillation,
        "distillation": 1.0, "temperature": 4.0, "mixup": options.mixup,
    }  # fmt: skip
    longer = {**common, "epochs": options.epochs}
    return [
        ("baseline", FinetuneConfig(epochs=options.baseline_epochs, **common)),
        *((f"target-{target:g}", FinetuneConfig(target_sparsity=target, **longer)) for target in options.targets),
        *((f"penalty-{value:g}", FinetuneConfig(activation_penalty=value, **longer)) for value in options.penalties),
    ]


def _network(
    name: str, config: FinetuneConfig, data: _Data, options: argparse.Namespace
) -> tuple[snnconvert.SpikingModel, float | None]:
    """The network of a run, and how long it trained; None where it was there."""
    place = options.folder / f"{name}-T{options.T}"
    if place.is_dir():
        return snnconvert.load(place), None
    settings = snnconvert.ConversionConfig(neuron="if", bits=1, T=options.T)
    start = snnconvert.convert(data.ann, data.training[0][:_CALIBRATION], settings, progress=False)
    assert isinstance(start, snnconvert.SpikingModel)
    began = time.perf_counter()
    course = Course(options.folder / f"{place.name}-training", resume=True)
    trained = finetune(start, data.training, config, teacher=data.ann, course=course)
    trained.save(place)
    return trained, (time.perf_counter() - began) / 60


def _row(name: str, snn: snnconvert.SpikingModel, data: _Data, options: argparse.Namespace) -> dict[str, Any]:
    decisions = closed_form_decisions(snn, data.images)
    few = data.images[: options.step_images]
    window, streaming = (run_in_time(snn, few, latency) for latency in ("window", "streaming"))
    if not torch.equal(window.decisions, decisions[: len(few)]):
        raise SystemExit(f"{name}: neurons that wait for their window decide otherwise than their closed form")
    labels = data.labels[: len(few)]
    return {
        "network": name,
        "accuracy": float((decisions == data.labels).double().mean()),
        "images": len(data.labels),
        "sparsity": 1 - window.rate,
        "energy": energy_ratios(window.layers, ann_densities(data.ann, few)),
        "energy_paper": paper_ratio(window.rate, options.T),
        "step_images": len(few),
        "window_accuracy": float((window.decisions == labels).double().mean()),
        "streaming_accuracy": float((streaming.decisions == labels).double().mean()),
        "streaming_sparsity": 1 - streaming.rate,
    }


def _trained(config: FinetuneConfig) -> dict[str, Any]:
    return {"target": config.target_sparsity, "penalty": config.activation_penalty, "epochs": config.epochs}


def _is_met(rows: list[dict[str, Any]]) -> bool:
    """Whether any network is sparse enough and has lost few enough points against the baseline."""
    least = rows[0]["accuracy"] - _LOST_POINTS / 100 - 1e-9
    return any(row["sparsity"] >= _WANTED and row["accuracy"] >= least for row in rows[1:])


def _point(row: dict[str, Any]) -> SparsityPoint:
    return SparsityPoint(row["sparsity"], row["accuracy"], row["images"], row["energy"], row["network"])


def _cells(row: dict[str, Any]) -> list[str]:
    driven = "-" if not row["penalty"] else f"{row['penalty']:g}"
    return [
        row["network"],
        "driven" if row["target"] else driven,
        f"{100 * row['accuracy']:.1f}",
        f"{100 * row['sparsity']:.2f}",
        *(f"{ratio:.2f}" for ratio in row["energy"].values()),
        f"{row['energy_paper']:.2f}",
        f"{100 * row['streaming_accuracy']:.1f}",
        f"{100 * row['streaming_sparsity']:.2f}",
        "there" if row["minutes"] is None else f"{row['minutes']:.0f}",
    ]


if __name__ == "__main__":
    main()
