"""Trained networks of many kinds on their own data, at the default settings: ``python -m benchmarks.real_networks``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.config_options import positive
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.trained.networks import NETWORKS
from benchmarks.trained.result import HEADER, Result
from snnconvert.config import ConversionConfig

MEASUREMENTS: dict[str, Callable[[int | None], Result]] = {
    name: NETWORKS[name].measure for name in ("fastestdet", "faces", "camvid", "mnist", "gpt")
}


def main(arguments: list[str] | None = None) -> None:
    """Converts and evaluates every network."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = []
    for name in options.only:
        results.append(MEASUREMENTS[name](options.images))
        emit(f"{name} done")
    emit()
    emit_table(HEADER, [result.cells() for result in results])
    settings = ConversionConfig().to_dict()
    emit_json({"benchmark": "real_networks", "config": settings, "rows": [result.to_dict() for result in results]})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.real_networks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--images", type=positive, help="how many images or sequences at most; all by default")
    parser.add_argument("--threads", type=positive, default=2)
    return parser


if __name__ == "__main__":
    main()
