"""Time of the packed engine beside the ANN's eager pass: ``python -m benchmarks.packed_inference``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.random_networks import CIFAR_RESNET20, RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from snnconvert.conversion import convert_whole

TARGET = 1.3
WORD_BITS = 8
_MODELS = ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224", CIFAR_RESNET20)


def main(arguments: list[str] | None = None) -> None:
    """Converts every model for every T and times it beside the ANN, in turns."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.models:
        rows += _rows_of(name, options)
        emit(f"{name} done")
    emit()
    header = ("model", "batch", *(f"T={steps}" for steps in options.steps), f"target <= {TARGET:g}")
    emit_table(header, [_cells(row) for row in rows])
    emit_json(
        {
            "benchmark": "packed_inference",
            "threads": options.threads,
            "rounds": options.rounds,
            "target": TARGET,
            "rows": rows,
        }
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.packed_inference", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS), help="of timm or torchvision, or cifar_resnet20")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--steps", type=int, nargs="+", choices=(1, 2, 4, 8), default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds the median is taken of")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _rows_of(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    ann = build_network(name)
    networks: dict[str, nn.Module] = {"ann": ann}
    for steps in options.steps:
        config = snnconvert.ConversionConfig(bits=WORD_BITS // steps, T=steps)
        networks[str(steps)] = convert_whole(ann, RandomImages(16, 16, side_of(name), seed=2), config, progress=False)
    rows = []
    for size in options.batch_sizes:
        (images,) = RandomImages(size, size, side_of(name), seed=3)
        rows.append({"model": name, "batch": size, "ratios": _ratios(networks, images, options.rounds)})
    return rows


def _ratios(networks: Mapping[str, nn.Module], images: Tensor, rounds: int) -> dict[str, float]:
    """Median over the rounds of each network's time over the ANN's in the same round."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for network in networks.values():
            network(images)
        for turn in range(rounds):
            for name in _rotated(list(networks), turn):
                start = time.perf_counter()
                networks[name](images)
                times[name].append(time.perf_counter() - start)
    reference = times.pop("ann")
    return {name: statistics.median(t / a for t, a in zip(own, reference, strict=True)) for name, own in times.items()}


def _rotated(names: list[str], turn: int) -> list[str]:
    """The names from another one on each turn, so that none always follows the same one."""
    start = turn % len(names)
    return names[start:] + names[:start]


def _cells(row: Mapping[str, Any]) -> list[str]:
    ratios = row["ratios"].values()
    verdict = "met" if max(ratios) <= TARGET else "MISSED"
    return [row["model"], str(row["batch"]), *(f"{ratio:.2f}" for ratio in ratios), verdict]


if __name__ == "__main__":
    main()
