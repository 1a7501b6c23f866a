"""Time and memory of training steps against the ANN's: ``python -m benchmarks.training_step``.

A step is forward, cross-entropy, backward and SGD with momentum: of the ANN in training mode with its BatchNorms, and
of the networks converted from it, packed at T steps of one bit, and rate-coded (``if``) with gradients back through T
steps; all have the same layers (no finer words on shortcuts or in the last layer). Times are medians of ratios to the
ANN's step in the same round. Memory is what the backward pass keeps: bytes of all tensors that autograd saves, each
storage counted once, parameters and inputs left out. Weights and images are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconvert
from benchmarks.random_networks import CIFAR_RESNET20, RandomImages, build_network, side_of
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.timing import interleaved_ratios
from snnconvert.conversion import convert_whole

TARGET, FLAT_WITHIN = 1.4, 0.01
_CLASSES = 10
_SCHEMES = {"packed": "packed", "BPTT": "if"}


def main(arguments: list[str] | None = None) -> None:
    """Converts for every T, and measures all steps in turns."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    networks = _networks(options)
    (images,) = RandomImages(options.batch_size, options.batch_size, side_of(options.model), seed=3)
    labels = torch.arange(options.batch_size) % _CLASSES
    kept = {name: saved_bytes(network, images, labels) for name, network in networks.items()}
    steps = {name: training_step(network, images, labels) for name, network in networks.items()}
    ratios = interleaved_ratios(steps, "ANN", options.rounds)
    rows = [_row(name, ratios[name], kept[name], kept["ANN"]) for name in networks]
    emit_table(("network", "time / ANN", "kept for backward, MB", "kept / ANN"), [_cells(row) for row in rows])
    packed = [row for row in rows if row["network"].startswith("packed")]
    if packed:
        _judge(packed)
    emit_json({"benchmark": "training_step", "model": options.model, "threads": options.threads, "rows": rows})


def _judge(packed: list[dict[str, Any]]) -> None:
    slowest, sizes = max(row["time_to_ann"] for row in packed), [row["kept_bytes"] for row in packed]
    flat = max(sizes) / min(sizes) - 1
    emit(f"packed step at most {slowest:.2f} of the ANN's (target {TARGET:g}): {_verdict(slowest <= TARGET)}")
    emit(f"packed memory over T differs by {100 * flat:.2f} % (target {100 * FLAT_WITHIN:g} %): "
         f"{_verdict(flat <= FLAT_WITHIN)}")  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.training_step", description=__doc__)
    parser.add_argument("--model", default=CIFAR_RESNET20, help="timm name or cifar_resnet20")
    parser.add_argument("--steps", type=int, nargs="+", choices=range(1, 9), default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--schemes", nargs="+", choices=tuple(_SCHEMES), default=list(_SCHEMES))
    return parser


def _networks(options: argparse.Namespace) -> dict[str, nn.Module]:
    """The ANN and all networks converted from it, in training mode."""
    ann, side = build_network(options.model), side_of(options.model)
    networks: dict[str, nn.Module] = {}
    for scheme in options.schemes:
        for T in options.steps:
            config = snnconvert.ConversionConfig(neuron=_SCHEMES[scheme], bits=1, T=T, shortcut_bits=1, last_bits=1)
            snn = convert_whole(ann, RandomImages(16, 16, side, seed=2), config, progress=False)
            networks[f"{scheme} T={T}"] = snn.train()
    return {"ANN": ann.train(), **networks}


def training_step(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One optimizer step of a network on a batch, to be called again and again."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return step


def saved_bytes(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass beside parameters, buffers and inputs.

    Args:
        network: in training mode.
        images: a batch.
        labels: int64 [N].
    """
    given = {
        tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers(), images, labels)
    }
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in given:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(network(images), labels)
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        del loss
    return total


def _row(name: str, ratio: float, kept: int, reference: int) -> dict[str, Any]:
    return {"network": name, "time_to_ann": ratio, "kept_bytes": kept, "kept_to_ann": kept / reference}


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["network"], f"{row['time_to_ann']:.2f}", f"{row['kept_bytes'] / 2**20:.1f}", f"{row['kept_to_ann']:.2f}"
    ]  # fmt: skip


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
