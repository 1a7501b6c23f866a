"""CIFAR-10's ResNet-20 in SpikingJelly and in the integer engines: ``python -m benchmarks.engine_peer``.

SpikingJelly runs the T steps at which its most accurate recipe reaches what words of T = 4 give (see
``benchmarks.peer_accuracy``), in its multi-step mode. Needs ``pip install 'snnconvert[peers]'`` and the CIFAR-10 data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.engine_models import has_openvino
from benchmarks.markdown import replace_block, table_lines
from benchmarks.real_data import emit_json, emit_table, require_data
from benchmarks.spikingjelly_recipes import RECIPES, convert_with, means_of_steps
from benchmarks.timing import interleaved_ratios
from snnconvert.conversion import convert_whole

TARGET = 200.0
_PAUSE = 0.02
_DEPTH, _PEER = 20, "SpikingJelly"
_RECIPE = "per channel, 99.9 %, v0 = θ/2"


def main(arguments: list[str] | None = None) -> None:
    """Converts with both and times them in turns."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    ann = load_cifar_resnet(folder, _DEPTH)
    calibration, _ = load_cifar_images(folder, "train", options.calibration_images)
    images, labels = load_cifar_images(folder, "test", options.images)
    try:
        peer = convert_with(options.recipe, ann, calibration)
    except ImportError:
        raise SystemExit("needs SpikingJelly: pip install 'snnconvert[peers]'") from None
    engines = [("onnxruntime", "spikes"), *([("openvino", "currents")] if has_openvino() else [])]
    compiled = {}
    for engine, residuals in engines:
        config = snnconvert.ConversionConfig(residuals=residuals)
        network = convert_whole(ann, calibration, config, progress=False)
        compiled[engine] = network.compile(engine, threads=options.threads, cache=False)
    rows = []
    for size in options.batch_sizes:
        batch = images[:size]
        runs: dict[str, Callable[[], object]] = {
            _PEER: _bind(lambda images: means_of_steps(peer, images, [options.T]), batch)
        }
        runs.update({engine: _bind(network, batch) for engine, network in compiled.items()})
        ratios = interleaved_ratios(runs, _PEER, options.rounds, pause=_PAUSE)
        rows += [{"batch": size, "engine": key, "times_faster": 1 / ratios[key]} for key in compiled]
    accuracies = {engine: _accuracy(network, images, labels) for engine, network in compiled.items()}
    header = ("batch", "engine", f"times faster than {_PEER} at T = {options.T}", f"target >= {TARGET:g}")
    cells = list(map(_cells, rows))
    emit_table(header, cells)
    if options.markdown is not None:
        replace_block(options.markdown, "peer speed", table_lines(header, cells))
    emit_json({"benchmark": "engine_peer", "T": options.T, "rows": rows, "accuracy": accuracies})


def _cells(row: Mapping[str, Any]) -> list[str]:
    faster = row["times_faster"]
    return [str(row["batch"]), row["engine"], f"{faster:.0f}", "met" if faster >= TARGET else "MISSED"]


def _bind(run: Callable[[Tensor], object], batch: Tensor) -> Callable[[], object]:
    return lambda: run(batch)


def _accuracy(network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    logits = torch.cat([network(batch) for batch in torch.split(images, 50)])
    return float((logits.argmax(1) == labels).double().mean())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.engine_peer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--T", type=int, default=64, help="SpikingJelly's time steps (default %(default)s)")
    parser.add_argument("--recipe", choices=list(RECIPES), default=_RECIPE, metavar="NAME")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table into a page, too")
    return parser


if __name__ == "__main__":
    main()
