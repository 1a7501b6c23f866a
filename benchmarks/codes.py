"""Accuracy of every code against its time steps, on a real ResNet-20: ``python -m benchmarks.codes``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from snnconvert.conversion import convert_whole
from snnconvert.engines.timeline import Latency
from snnconvert.evaluation import compare

_BATCH = 50
_COLUMNS: tuple[tuple[str, str, int, Latency], ...] = (
    ("packed b=1", "packed", 1, "streaming"),
    ("packed b=2", "packed", 2, "streaming"),
    ("if", "if", 1, "streaming"),
    ("if, window", "if", 1, "window"),
    ("if b=4", "if", 4, "streaming"),
    ("lif 0.95", "lif", 1, "streaming"),
    ("ternary", "ternary", 1, "streaming"),
    ("multithreshold n=4", "multithreshold", 4, "streaming"),
    ("differential n=4", "differential", 4, "streaming"),
)


def main(arguments: list[str] | None = None) -> None:
    """Converts and evaluates every code at every T."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    ann = load_cifar_resnet(folder, 20)
    calibration, _ = load_cifar_images(folder, "train", options.calib_images)
    images, labels = load_cifar_images(folder, "test", options.images)
    cells = []
    for column in _COLUMNS:
        for steps in options.steps:
            if (row := _cell(ann, column, steps, calibration, images, labels)) is not None:
                cells.append(row)
                emit(f"{row['code']:20} T={steps:<3} {100 * row['snn']:.1f} %")
    emit()
    emit(f"ANN {100 * cells[0]['ann']:.1f} % of {len(images)} images, 8-bit weights")
    emit_table(["code", "bits a step", *(f"T={steps}" for steps in options.steps)], _rows(cells, options.steps))
    emit_json({"benchmark": "codes", "images": len(images), "rows": cells})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.codes", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--calib-images", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    return parser


class _InTime(nn.Module):
    """A spiking network that always runs step by step."""

    def __init__(self, snn: snnconvert.SpikingModel, latency: Latency) -> None:
        super().__init__()
        self._run: Callable[[Tensor], Tensor] = lambda images: snn.simulate(images, latency=latency).output

    def forward(self, images: Tensor) -> Tensor:
        return self._run(images)


def _cell(
    ann: nn.Module, column: tuple[str, str, int, Latency], T: int, calibration: Tensor, images: Tensor, labels: Tensor
) -> dict[str, Any] | None:
    name, neuron, bits, latency = column
    try:
        config = snnconvert.ConversionConfig(neuron=neuron, bits=bits, T=T)
    except snnconvert.ConfigurationError:
        return None
    snn = convert_whole(ann, calibration, config, progress=False)
    batches = [(images[i : i + _BATCH], labels[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    evaluation = compare(ann, _InTime(snn, latency), batches)
    metric = evaluation.metric()
    return {
        "code": name,
        "T": T,
        "spike_bits": snn.report.layers[-1].spike_bits,
        "ann": metric.ann,
        "snn": metric.snn,
        "difference_ci95": metric.difference_ci95,
        "ticks": snn.simulate(images[:1], latency=latency).ticks,
    }


def _rows(cells: list[dict[str, Any]], steps: list[int]) -> list[list[str]]:
    table = []
    for name, *_ in _COLUMNS:
        own = {cell["T"]: cell for cell in cells if cell["code"] == name}
        accuracies = [f"{100 * own[T]['snn']:.1f}" if T in own else "-" for T in steps]
        table.append([name, str(next(iter(own.values()))["spike_bits"]) if own else "-", *accuracies])
    return table


if __name__ == "__main__":
    main()
