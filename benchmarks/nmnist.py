"""Event frames through converted networks: ``python -m benchmarks.nmnist``.

Trains a small network on the summed event counts of N-MNIST, converts it, and drives the spiking network
with the frames of each recording, one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import snnconvert
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from snnconvert.conversion import convert_whole
from snnconvert.data.event_archive import EventArchive
from snnconvert.data.events import event_batches

SENSOR = (34, 34, 2)
_EPOCHS, _BATCH = 15, 32


def load_recordings(folder: Path, part: str) -> EventArchive:
    """The recordings for training ("train") or testing ("test")."""
    return EventArchive(folder / {"train": "train1000.npz", "test": "test100.npz"}[part])


def summed(recordings: EventArchive) -> tuple[Tensor, Tensor]:
    """Event counts of whole recordings [N, P, H, W], and labels."""
    batches = list(event_batches(recordings, SENSOR, 1))
    return torch.cat([frames[0] for frames, _ in batches]), torch.cat([labels for _, labels in batches])


def train(images: Tensor, labels: Tensor, seed: int = 0) -> nn.Module:
    """A small convolutional network trained on summed event counts."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 81, 10),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = -(-len(images) // _BATCH) * _EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(_EPOCHS):
        for chosen in torch.split(torch.randperm(len(images)), _BATCH):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def main(arguments: list[str] | None = None) -> None:
    """Trains, converts and drives."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    folder = require_data("nmnist")
    images, labels = summed(load_recordings(folder, "train"))
    network = train(images, labels)
    test = load_recordings(folder, "test")
    counts, truth = summed(test)
    with torch.no_grad():
        ann = float((network(counts).argmax(1) == truth).double().mean())
    rows = [_row(network, images, test, neuron, steps) for neuron in options.neurons for steps in options.steps]
    emit(f"ANN on summed events: {100 * ann:.1f} % of {len(test)} recordings")
    header = ("neuron", "frames", "SNN %", "first half %", "latency in steps", "input spikes/pixel")
    emit_table(header, [_cells(row) for row in rows])
    emit_json({"benchmark": "nmnist", "ann": ann, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.nmnist", description=__doc__)
    parser.add_argument(
        "--neurons", nargs="+", default=["packed/2", "if/1", "if/4", "multithreshold/4", "differential/4"]
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16])
    return parser


def _row(network: nn.Module, images: Tensor, test: EventArchive, neuron: str, steps: int) -> dict[str, Any]:
    name, _, bits = neuron.partition("/")
    T = 8 // int(bits) if name == "packed" else steps
    config = snnconvert.ConversionConfig(neuron=name, bits=int(bits), T=T)
    snn = convert_whole(network, images, config, progress=False)
    right = early = spikes = seen = ticks = 0
    for frames, labels in event_batches(test, SENSOR, steps):
        result = snn.simulate(frames, record={"counts": next(name for name, _ in snn.neurons())})
        entering = next(iter(result.layers.values()))
        right += int((result.output.argmax(1) == labels).sum())
        early += int((result.readout[len(result.readout) // 2 - 1].argmax(1) == labels).sum())
        spikes += sum(entering.counts or ())
        seen, ticks = seen + len(labels), result.ticks
    pixels = seen * SENSOR[0] * SENSOR[1] * SENSOR[2]
    return {
        "neuron": neuron,
        "frames": steps,
        "accuracy": right / seen,
        "half_time_accuracy": early / seen,
        "ticks": ticks,
        "input_spikes_per_pixel": spikes / pixels,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["neuron"],
        str(row["frames"]),
        f"{100 * row['accuracy']:.1f}",
        f"{100 * row['half_time_accuracy']:.1f}",
        str(row["ticks"]),
        f"{row['input_spikes_per_pixel']:.2f}",
    ]


if __name__ == "__main__":
    main()
