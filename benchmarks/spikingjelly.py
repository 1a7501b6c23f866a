"""The stepwise engine beside SpikingJelly's multi-step mode: ``python -m benchmarks.spikingjelly``.

Both convert the same ResNet-18 into binary integrate-and-fire neurons with soft reset and v0 = θ/2, and run
T steps on the same images. SpikingJelly runs in its own multi-step mode: with the settings of its low-T
example ("half"), and the same numbers in its fastest eager form (plain IFNode, channels_last convolutions).
Needs ``pip install 'snnconvert[peers]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.timing import interleaved_ratios
from snnconvert.conversion import convert_whole

_CALIBRATION_IMAGES = 16


def main(arguments: list[str] | None = None) -> None:
    """Converts with both and times them in turns."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    ann, side = build_network(options.model), side_of(options.model)
    (calibration,) = RandomImages(_CALIBRATION_IMAGES, _CALIBRATION_IMAGES, side, seed=2)
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=options.T)
    snn = convert_whole(ann, calibration, config, progress=False)
    peers = {
        "SpikingJelly m, half": build_peer(ann, calibration, options.T, fastest=False),
        "SpikingJelly m, fastest eager": build_peer(ann, calibration, options.T, fastest=True),
    }
    rows = [row for size in options.batch_sizes for row in _rows(ann, snn, peers, size, side, options)]
    emit(f"{options.model}, T={options.T}, {options.threads} threads, times as multiples of the ANN's eager pass")
    emit_table(["run", "batch", "x ANN"], [[row["run"], str(row["batch"]), f"{row['ratio']:.2f}"] for row in rows])
    emit_json({"benchmark": "spikingjelly", "model": options.model, "T": options.T, "rows": rows})


def build_peer(ann: nn.Module, calibration: Tensor, T: int, *, fastest: bool) -> Callable[[Tensor], Tensor]:
    """SpikingJelly's conversion as a function from images to the mean output of T steps."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            from spikingjelly.activation_based import ann2snn, functional, neuron
    except ImportError:
        raise SystemExit("needs SpikingJelly: pip install 'snnconvert[peers]'") from None

    def half_threshold(_: float) -> Any:
        node = neuron.IFNode(v_threshold=1.0, v_reset=None)
        node.set_reset_value("v", 0.5)
        node.v = 0.5
        return node

    choice: dict[str, Any] = {"neuron_factory": half_threshold} if fastest else {"half_threshold": True}
    recipe = ann2snn.RateCodingRecipe(
        dataloader=[calibration], mode="99.9%", channel_wise=True, pre_spike_maxpool=True, **choice
    )
    with contextlib.redirect_stderr(io.StringIO()):
        converted = ann2snn.Converter(recipe=recipe, device="cpu").convert(ann).eval()
    functional.set_step_mode(converted, "m")
    for module in converted.modules():
        if fastest and isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)

    def run(images: Tensor) -> Tensor:
        functional.reset_net(converted)
        output: Tensor = converted(images.unsqueeze(0).expand(T, *images.shape)).mean(0)
        return output

    return run


def _rows(
    ann: nn.Module,
    snn: snnconvert.SpikingModel,
    peers: dict[str, Callable[[Tensor], Tensor]],
    size: int,
    side: int,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    (images,) = RandomImages(size, size, side, seed=3)
    runs: dict[str, Callable[[], object]] = {
        "ANN": lambda: ann(images),
        "snnconvert stepwise, if": lambda: snn.simulate(images),
        **{name: partial(run, images) for name, run in peers.items()},
    }
    ratios = interleaved_ratios(runs, "ANN", options.rounds, warm_up=2)
    return [{"run": name, "batch": size, "ratio": ratio} for name, ratio in ratios.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.spikingjelly", description=__doc__)
    parser.add_argument("--model", default="resnet18", help="timm name of a network with nn.ReLU modules")
    parser.add_argument("--T", type=int, default=4)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
