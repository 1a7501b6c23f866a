"""Time and memory of a conversion beside the ANN's own passes: ``python -m benchmarks.conversion_cost``."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table

TIME_TARGET = 2.5
MEMORY_TARGET = 1.5


def main(arguments: list[str] | None = None) -> None:
    """Measures memory in fresh processes, then time in this one."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        emit(str(_own_peak(options)))
        return
    # Memory comes first: a child's peak starts at the size of the process that started it.
    peaks = {what: _peak_in_child(what, options) for what in _WORK}
    times = _interleaved_times(options)
    time_ratio = statistics.median(c / a for a, c in zip(times["ann"], times["convert"], strict=True))
    memory_ratio = peaks["convert"] / peaks["ann"]
    emit(f"{options.model}, {options.images} images in batches of {options.batch_size}")
    emit_table(
        ("", "convert / ANN passes", "target"),
        [
            ("time", f"{time_ratio:.2f}", _verdict(time_ratio, TIME_TARGET)),
            ("peak memory", f"{memory_ratio:.2f}", _verdict(memory_ratio, MEMORY_TARGET)),
        ],
    )
    emit_json(
        {
            "benchmark": "conversion_cost",
            "model": options.model,
            "images": options.images,
            "batch_size": options.batch_size,
            "threads": options.threads,
            "rounds": options.rounds,
            "time_ratio": time_ratio,
            "time_ratios": [c / a for a, c in zip(times["ann"], times["convert"], strict=True)],
            "time_target": TIME_TARGET,
            "memory_ratio": memory_ratio,
            "peak_mib": peaks,
            "memory_target": MEMORY_TARGET,
        }
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.conversion_cost", description=__doc__)
    parser.add_argument("--model", default="resnet50", help="a timm name or cifar_resnet20")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds the median is taken of")
    parser.add_argument("--peak-of", choices=sorted(_WORK), help=argparse.SUPPRESS)
    return parser


def _run_ann(network: nn.Module, batches: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for batch in batches:
            network(batch)


def _run_convert(network: nn.Module, batches: Iterable[Tensor]) -> None:
    snnconvert.convert(network, batches, progress=False)


_WORK: dict[str, Callable[[nn.Module, Iterable[Tensor]], None]] = {"ann": _run_ann, "convert": _run_convert}


def _images(options: argparse.Namespace) -> RandomImages:
    return RandomImages(options.images, options.batch_size, side_of(options.model), seed=2)


def _own_peak(options: argparse.Namespace) -> int:
    """Peak resident MiB of this process after building the network and doing one kind of work."""
    _WORK[options.peak_of](build_network(options.model), _images(options))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _peak_in_child(what: str, options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "benchmarks.conversion_cost", "--peak-of", what]
    for name in ("model", "images", "batch_size", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def _interleaved_times(options: argparse.Namespace) -> dict[str, list[float]]:
    network, batches = build_network(options.model), list(_images(options))
    for work in _WORK.values():
        work(network, batches[:1])
    times: dict[str, list[float]] = {what: [] for what in _WORK}
    for _ in range(options.rounds):
        for what, work in _WORK.items():
            start = time.perf_counter()
            work(network, batches)
            times[what].append(time.perf_counter() - start)
    return times


def _verdict(ratio: float, target: float) -> str:
    return f"<= {target:g}: {'met' if ratio <= target else 'MISSED'}"


if __name__ == "__main__":
    main()
