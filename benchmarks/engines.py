"""Speed of the integer engines beside the ANN and its plain 8-bit form: ``python -m benchmarks.engines``.

Everything is timed in turns within one run, with random weights and images; the figure is the median over the rounds of
the ANN's time in torch (eager, float32) divided by the engine's in the same round. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.engine_models import (
    AnnFiles,
    Run,
    has_openvino,
    onnxruntime_run,
    openvino_run,
    openvino_survives,
    write_ann,
)
from benchmarks.markdown import replace_block, table_lines
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.timing import interleaved_ratios
from snnconvert.conversion import convert_whole
from snnconvert.spiking_model import SpikingModel

WORD_BITS = 8
EAGER, FLOAT32 = "torch float32", "onnxruntime float32"
TARGETS: dict[str, tuple[float, float, float]] = {
    "resnet18": (7.0, 3.0, 0.95),
    "resnet50": (7.0, 3.0, 0.95),
    "mobilenetv2_100": (8.0, 2.2, 0.9),
    "vit_small_patch16_224": (4.0, 2.0, 0.9),
}
SETTINGS = {
    "onnxruntime": snnconvert.ConversionConfig(residuals="spikes", function_grid="bytes"),
    "openvino": snnconvert.ConversionConfig(residuals="spikes"),
    "torch": snnconvert.ConversionConfig(residuals="currents"),
}
ONNXRUNTIME_TARGETS = {"resnet18": 5.5, "resnet50": 5.5}
_CALIBRATION_IMAGES = 8
_PAUSE = 0.02


def main(arguments: list[str] | None = None) -> None:
    """Converts every model, loads it into every engine, and times them all in turns."""
    options = _parser().parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for name in options.models:
        rows.extend(_rows_of(name, options))
    emit()
    header = ("network", "threads", "batch", "in", "ANN float32", "ANN int8", "SNN", "SNN / int8 ANN", "targets")
    cells = [line for row in rows for line in _cells(row)]
    emit_table(header, cells)
    if options.markdown is not None:
        replace_block(options.markdown, options.block, table_lines(header, cells))
    emit_json({"benchmark": "engines", "torch": torch.__version__, "rounds": options.rounds, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(TARGETS), help="of timm or torchvision, or cifar_resnet20")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, nargs="+", choices=(1, 2, 4, 8), default=[4], help="T, at 8 bits a word")
    parser.add_argument("--weight-bits", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds the median is taken of")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table into a page, too")
    parser.add_argument("--block", default="engines", help="name of the page's block (default %(default)s)")
    return parser


def _rows_of(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    ann = build_network(name)
    engines = [engine for engine in SETTINGS if engine != "openvino" or has_openvino()]
    networks = {
        (engine, steps): _converted(ann, name, engine, steps, options.weight_bits)
        for engine in engines
        for steps in options.steps
    }
    with tempfile.TemporaryDirectory() as folder:
        calibration = list(RandomImages(_CALIBRATION_IMAGES, 4, side_of(name), seed=2))
        files = write_ann(ann, calibration, Path(folder))
        for threads in options.threads:
            torch.set_num_threads(threads)
            runs, compile_seconds = _runs(ann, files, networks, threads)
            for size in options.batch_sizes:
                (images,) = RandomImages(size, size, side_of(name), seed=3)
                bound = {key: _bind(run, images) for key, run in runs.items()}
                ratios = interleaved_ratios(bound, EAGER, options.rounds, warm_up=2, pause=_PAUSE)
                emit(f"{name}, {threads} threads, batch {size}: done")
                yield {
                    "network": name,
                    "threads": threads,
                    "batch": size,
                    "speedups": {key: 1 / ratio for key, ratio in ratios.items()},
                    "compile_s": compile_seconds,
                }


def _converted(ann: nn.Module, name: str, engine: str, steps: int, weight_bits: int) -> SpikingModel:
    """The network as an engine runs it fastest."""
    config = dataclasses.replace(SETTINGS[engine], bits=WORD_BITS // steps, T=steps, weight_bits=weight_bits)
    images = RandomImages(_CALIBRATION_IMAGES, _CALIBRATION_IMAGES, side_of(name), seed=2)
    return convert_whole(ann, images, config, progress=False)


def _runs(
    ann: nn.Module, files: AnnFiles, networks: Mapping[tuple[str, int], SpikingModel], threads: int
) -> tuple[dict[str, Run], dict[str, float]]:
    """What is timed, by name, and how long the engines took to build."""
    runs: dict[str, Run] = {
        EAGER: ann,
        FLOAT32: onnxruntime_run(files.float32, threads),
    }
    if files.int8 is not None:
        runs["onnxruntime int8"] = onnxruntime_run(files.int8, threads)
    if has_openvino():
        runs["openvino float32"] = openvino_run(files.float32, threads)
        runs["openvino bf16"] = openvino_run(files.float32, threads, "bf16")
        if files.int8 is not None and openvino_survives(files.int8):
            runs["openvino int8"] = openvino_run(files.int8, threads)
        elif files.int8 is not None:
            emit("OpenVINO can't compile the ANN's 8-bit form")
    seconds: dict[str, float] = {}
    for (engine, steps), network in networks.items():
        compiled = network.compile(engine, threads=threads, cache=False)
        runs[f"{engine} T={steps}"] = compiled
        seconds[f"{engine} T={steps}"] = compiled.compile_seconds
    return runs, seconds


def _bind(run: Run, images: Tensor) -> Callable[[], object]:
    return lambda: run(images)


def _cells(row: Mapping[str, Any]) -> Iterator[list[str]]:
    """One line for each runtime."""
    speedups: Mapping[str, float] = row["speedups"]
    best = _best(speedups)
    for runtime in ("torch", "onnxruntime", "openvino"):
        snn = {key: value for key, value in speedups.items() if key.startswith(f"{runtime} T=")}
        if not snn:
            continue
        float32, int8 = speedups.get(f"{runtime} float32"), speedups.get(f"{runtime} int8")
        fastest = max(snn.values())
        is_best = runtime == best
        verdict = _verdict(row["network"], runtime, speedups) if is_best else _alone(row["network"], runtime, fastest)
        spread = f" ({min(snn.values()):.2f} .. {fastest:.2f} over T)" if len(snn) > 1 else ""
        yield [
            row["network"],
            str(row["threads"]),
            str(row["batch"]),
            runtime,
            _figure(float32),
            _figure(int8),
            f"{fastest:.2f}{spread}",
            _figure(None if int8 is None else fastest / int8),
            verdict,
        ]


def _best(speedups: Mapping[str, float]) -> str:
    """The runtime in which the spiking network is fastest."""
    own = {key: value for key, value in speedups.items() if " T=" in key}
    return max(own, key=lambda key: own[key]).split(" T=")[0]


def _verdict(name: str, runtime: str, speedups: Mapping[str, float]) -> str:
    """Whether the fastest engine meets what is asked of it: against torch, onnxruntime and its own int8."""
    if name not in TARGETS:
        return ""
    fastest = max(value for key, value in speedups.items() if key.startswith(f"{runtime} T="))
    int8 = speedups.get(f"{runtime} int8", fastest)
    reached = (fastest, fastest / speedups[FLOAT32], fastest / int8)
    words = [
        f"{value:.2f} >= {target:g}: {'met' if value >= target else 'MISSED'}"
        for value, target in zip(reached, TARGETS[name], strict=True)
    ]
    return "; ".join(words)


def _alone(name: str, runtime: str, speedup: float) -> str:
    target = ONNXRUNTIME_TARGETS.get(name)
    if runtime != "onnxruntime" or target is None:
        return ""
    return f"{speedup:.2f} >= {target:g}: {'met' if speedup >= target else 'MISSED'}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
