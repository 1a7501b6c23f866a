"""Peak memory of inference, each engine in a process of its own: ``python -m benchmarks.engine_memory``.

What counts is the largest resident set while an engine is loaded and run, less what the process held before it loaded
the model. The ANN runs in the runtimes as they come, from one file; the spiking network in portions and from files as
in its engine, and in onnxruntime in the session that the engine makes, which plans memory otherwise. Weights and images
are random; nothing is downloaded. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch

import snnconvert
from benchmarks.engine_models import Run, has_openvino, onnxruntime_run, openvino_run, write_ann
from benchmarks.markdown import replace_block, table_lines
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from snnconvert.conversion import convert_whole
from snnconvert.engines.integer.model_files import write_model
from snnconvert.engines.integer.onnxruntime_runtime import OnnxRuntime
from snnconvert.engines.integer.portions import macs_of_samples, portion_of
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.export.onnx_export import export_onnx

TARGET = 0.5
_RUNS = 5
_MODELS = ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224")


def main(arguments: list[str] | None = None) -> None:
    """Prepares every model and measures it in every engine."""
    options = _parser().parse_args(arguments)
    if options.child is not None:
        _measure(*options.child)
        return
    rows = [row for name in options.models for row in _rows_of(name, options)]
    header = ("network", "batch", "in", "ANN float32 MB", "ANN int8 MB", "SNN MB", f"SNN / float32, target <= {TARGET}")
    cells = list(map(_cells, rows))
    emit_table(header, cells)
    if options.markdown is not None:
        replace_block(options.markdown, "memory", table_lines(header, cells))
    emit_json({"benchmark": "engine_memory", "threads": options.threads, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.engine_memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS), help="of timm or torchvision, or cifar_resnet20")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=7, help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table into a page, too")
    return parser


def _rows_of(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    ann = build_network(name)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        files = write_ann(ann, list(RandomImages(8, 4, side_of(name), seed=2)), folder)
        config = snnconvert.ConversionConfig(residuals="spikes")
        network = convert_whole(ann, RandomImages(8, 8, side_of(name), seed=2), config, progress=False)
        for runtime in ("onnxruntime", *(("openvino",) if has_openvino() else ())):
            exported = folder / f"{runtime}.onnx"
            export_onnx(network, exported, dialect=runtime)
            model = onnx.load(str(exported))
            (folder / runtime).mkdir()
            snn = write_model(model, folder / runtime)
            macs = macs_of_samples(network.network, network.signature, model)
            portion = portion_of(macs, options.threads)
            for batch in options.batch_sizes:
                parts = math.ceil(batch / (portion or batch))
                files_of = (("ann", files.float32, 1), ("int8", files.int8, 1), ("snn", snn, parts))
                peaks = {
                    kind: _peak(kind, runtime, path, side_of(name), (batch, count), options.threads)
                    for kind, path, count in files_of
                    if path is not None
                }
                rows.append({"network": name, "batch": batch, "runtime": runtime, "peak_bytes": peaks})
                emit(f"{name}, {runtime}, batch {batch}: done")
    return rows


def _peak(kind: str, runtime: str, path: Path, side: int, images: tuple[int, int], threads: int) -> int:
    """Of so many images, given in so many portions."""
    told = [kind, runtime, str(path), *map(str, (side, *images, threads))]
    command = [sys.executable, "-m", "benchmarks.engine_memory", "--child", *told]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(result.stdout.splitlines()[-1])["peak_bytes"])


def _measure(kind: str, runtime: str, path: str, side: str, batch: str, parts: str, threads: str) -> None:
    """In the child: loads one file, runs it, and prints its peak."""
    portions = torch.zeros(int(batch), 3, int(side), int(side)).tensor_split(int(parts))
    if runtime == "openvino":
        import openvino

        openvino.Core()
    before = _status("VmRSS")
    run = _loaded(kind, runtime, Path(path), int(threads))
    for _ in range(_RUNS):
        for images in portions:
            run(images)
    emit(json.dumps({"peak_bytes": _status("VmHWM") - before}))


def _loaded(kind: str, runtime: str, path: Path, threads: int) -> Run:
    if runtime == "openvino":
        return openvino_run(path, threads)
    if kind != "snn":
        return onnxruntime_run(path, threads)
    engine = OnnxRuntime(path, RuntimeOptions(threads=threads))
    return lambda images: engine.run([images])


def _status(field: str) -> int:
    """One line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark needs Linux's /proc/self/status")


def _cells(row: Mapping[str, Any]) -> list[str]:
    peaks = row["peak_bytes"]
    share = peaks["snn"] / peaks["ann"]
    megabytes = [f"{peaks[kind] / 2**20:.0f}" if kind in peaks else "" for kind in ("ann", "int8", "snn")]
    verdict = f"{share:.2f}: {'met' if share <= TARGET else 'MISSED'}"
    return [row["network"], str(row["batch"]), row["runtime"], *megabytes, verdict]


if __name__ == "__main__":
    main()
