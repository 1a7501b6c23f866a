"""Packed against stepwise: the same spikes, one pass or T steps: ``python -m benchmarks.stepwise``."""

from __future__ import annotations

import argparse
from typing import Any

import torch

import snnconvert
from benchmarks.random_networks import CIFAR_RESNET20, RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.timing import interleaved_ratios
from snnconvert.conversion import convert_whole

FASTER_AT_8, FLAT_WITHIN = 6.0, 0.05
_WORD_BITS = 8


def main(arguments: list[str] | None = None) -> None:
    """Converts for every T, checks that both engines agree bit for bit, and times them in turns."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows, flat = _measured(options)
    header = ("T", "b", "stepwise / packed", "packed / packed at T=1", "stepwise / ANN", "packed / ANN")
    emit_table(header, [_cells(row) for row in rows])
    ratio = next((row["stepwise_to_packed"] for row in rows if row["T"] == _WORD_BITS), None)
    if ratio is not None:
        verdict = "met" if ratio >= FASTER_AT_8 else "MISSED"
        emit(f"packed at T=8 is {ratio:.1f} times faster than stepwise (target {FASTER_AT_8:g}): {verdict}")
    verdict = "met" if flat <= FLAT_WITHIN else "MISSED"
    emit(f"packed cost over T differs by at most {100 * flat:.1f} % (target {100 * FLAT_WITHIN:g} %): {verdict}")
    emit_json({"benchmark": "stepwise", "model": options.model, "rows": rows, "largest_change_over_T": flat})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.stepwise", description=__doc__)
    parser.add_argument("--model", default=CIFAR_RESNET20, help="timm name or cifar_resnet20")
    parser.add_argument("--steps", type=int, nargs="+", choices=range(1, 9), default=list(range(1, 9)))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _measured(options: argparse.Namespace) -> tuple[list[dict[str, Any]], float]:
    ann, side = build_network(options.model), side_of(options.model)
    (images,) = RandomImages(options.batch_size, options.batch_size, side, seed=3)
    networks = {}
    for T in options.steps:
        config = snnconvert.ConversionConfig(bits=_WORD_BITS // T, T=T)
        networks[T] = convert_whole(ann, RandomImages(16, 16, side, seed=2), config, progress=False)
        if not torch.equal(networks[T].simulate(images).output, networks[T](images)):
            raise SystemExit(f"T={T}: stepwise and packed differ")
    packed = {f"packed {T}": (lambda snn=snn: snn(images)) for T, snn in networks.items()}
    stepwise = {f"stepwise {T}": (lambda snn=snn: snn.simulate(images)) for T, snn in networks.items()}
    first = f"packed {options.steps[0]}"
    passes = interleaved_ratios({**packed, "ann": lambda: ann(images)}, first, 4 * options.rounds, warm_up=3)
    both = interleaved_ratios({**packed, **stepwise}, first, options.rounds)
    rows = [
        {
            "T": T,
            "bits": _WORD_BITS // T,
            "stepwise_to_packed": both[f"stepwise {T}"] / both[f"packed {T}"],
            "packed_to_first": passes[f"packed {T}"],
            "stepwise_to_ann": both[f"stepwise {T}"] / both[f"packed {T}"] * passes[f"packed {T}"] / passes["ann"],
            "packed_to_ann": passes[f"packed {T}"] / passes["ann"],
        }
        for T in networks
    ]
    return rows, max(abs(row["packed_to_first"] - 1) for row in rows)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["T"]),
        str(row["bits"]),
        f"{row['stepwise_to_packed']:.1f}",
        f"{row['packed_to_first']:.3f}",
        f"{row['stepwise_to_ann']:.1f}",
        f"{row['packed_to_ann']:.2f}",
    ]


if __name__ == "__main__":
    main()
