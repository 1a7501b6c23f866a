"""Widths learned in training against uniform ones trained just as long: ``python -m benchmarks.learned_bits``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from benchmarks.setting import Setting
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.conversion import collector_of
from snnconvert.evaluation import compare
from snnconvert.finishing import thresholds_of
from snnconvert.preparation import PreparedConversion, prepare
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.landing import land
from snnconvert.training.learned_bits.learn import LearningSchedule, train
from snnconvert.training.learned_bits.network import LearnedBitsNetwork

_BATCH, _PADDING = 100, 4
_UNIFORM = (Setting(2, 4, 1), Setting(4, 2, 1))


class AugmentedImages:
    """Batches of images, flipped and cropped anew each time they are read.

    Args:
        images: [N, 3, 32, 32].
        labels: [N].
        batch: images in a batch.
        seed: of their order, flips and crops.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch: int, seed: int) -> None:
        self._images, self._labels, self._batch = images, labels, batch
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.split(torch.randperm(len(self._images), generator=self._random), self._batch):
            yield self._changed(self._images[index]), self._labels[index]

    def _changed(self, images: Tensor) -> Tensor:
        flips = torch.rand(len(images), generator=self._random) < 0.5
        flipped = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
        size, padded = images.shape[-1], F.pad(flipped, (_PADDING,) * 4)
        corners = torch.randint(0, 2 * _PADDING + 1, (len(images), 2), generator=self._random).tolist()
        crops = [image[:, y : y + size, x : x + size] for image, (y, x) in zip(padded, corners, strict=True)]
        return torch.stack(crops)


def main(arguments: list[str] | None = None) -> None:
    """Trains and evaluates each setting."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    folder = require_data("cifar10")
    rows = []
    for setting, config in _runs(options):
        rows.append(_row(folder, setting, config, options))
        emit(f"{rows[-1]['widths']} done in {rows[-1]['seconds']:.0f} s")
    emit()
    header = ("widths", "b_w", "b_s", "T", "BB (means)", "BB (MAC)", "ANN %", "untrained %", "trained %", "seconds")
    emit_table(header, [_cells(row) for row in rows])
    emit_json({"benchmark": "learned_bits", "model": "resnet20", "epochs": options.epochs, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.learned_bits", description=__doc__)
    parser.add_argument("--uniform", type=Setting.parse, nargs="*", default=list(_UNIFORM))
    parser.add_argument("--start", type=Setting.parse, default=Setting(3, 3, 1), help="widths that learning starts at")
    parser.add_argument("--target-weight-bits", type=float, default=2.8)
    parser.add_argument("--target-spike-bits", type=float, default=2.8)
    parser.add_argument("--weighting", choices=("numel", "macs"), default="macs")
    parser.add_argument("--penalty", type=float, default=0.3)
    parser.add_argument("--settle-share", type=float, default=0.4, help="share of the training in which widths change")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--training-images", type=int, default=4000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _runs(options: argparse.Namespace) -> list[tuple[Setting, LearnedBitsConfig]]:
    learned = LearnedBitsConfig(
        target_weight_bits=options.target_weight_bits,
        target_spike_bits=options.target_spike_bits,
        weight_penalty=options.penalty,
        spike_penalty=options.penalty,
        weighting=options.weighting,
        renewal_share=options.settle_share,
        settle_share=options.settle_share,
    )
    uniform = [(setting, LearnedBitsConfig(weighting="macs", learn_widths=False)) for setting in options.uniform]
    return [(options.start, learned), *uniform]


def _row(folder: Path, setting: Setting, config: LearnedBitsConfig, options: argparse.Namespace) -> dict[str, Any]:
    ann = load_cifar_resnet(folder, 20)
    images, labels = load_cifar_images(folder, "train", options.training_images)
    prepared = prepare(ann, images[:2], setting.config({}), narrow=True)
    statistics = _statistics(prepared, images[: options.calibration_images])
    network = LearnedBitsNetwork(prepared, thresholds_of(prepared, statistics)[0], config)
    untrained = _evaluated(folder, ann, network.eval(), statistics, options)
    start = time.perf_counter()
    loader = AugmentedImages(images, labels, options.batch, options.seed)
    train(network, loader, LearningSchedule(options.epochs, options.learning_rate), progress=True)
    seconds = time.perf_counter() - start
    trained, budgets = _evaluated(folder, ann, network, statistics, options), network.budgets()
    return {
        "widths": f"learned from {setting}" if config.learn_widths else f"uniform {setting}",
        "weight_bits": budgets.weight_bits,
        "spike_bits": budgets.spike_bits,
        "T": budgets.T,
        "bit_budget": budgets.bit_budget,
        "mac_bit_budget": budgets.mac_bit_budget,
        "ann": trained["ann"],
        "untrained": untrained["snn"],
        "trained": trained["snn"],
        "agreement": trained["agreement"],
        "seconds": seconds,
        "layers": [[item.layer, item.weight_bits, item.spike_bits, item.T] for item in network.allocation()],
    }


def _statistics(prepared: PreparedConversion, images: Tensor) -> Statistics:
    collector = collector_of(prepared)
    for part in torch.split(images, _BATCH):
        collector.update((part,))
    return collector.statistics()


def _evaluated(
    folder: Path, ann: nn.Module, network: LearnedBitsNetwork, statistics: Statistics, options: argparse.Namespace
) -> dict[str, float]:
    """Accuracies of the ANN and of the spiking network that a network of learned widths lands as."""
    images, labels = load_cifar_images(folder, "test", options.test_images)
    snn: snnconvert.SpikingModel = land(network, statistics)
    batches = zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)
    evaluation = compare(ann, snn, list(batches))
    metric, fidelity = evaluation.metric(), evaluation.fidelity("test images")
    return {"ann": metric.ann, "snn": metric.snn, "agreement": fidelity.top1_agreement or 0.0}


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["widths"],
        f"{row['weight_bits']:.2f}",
        f"{row['spike_bits']:.2f}",
        f"{row['T']:.2f}",
        f"{row['bit_budget']:.2f}",
        f"{row['mac_bit_budget']:.2f}",
        f"{100 * row['ann']:.1f}",
        f"{100 * row['untrained']:.1f}",
        f"{100 * row['trained']:.1f}",
        f"{row['seconds']:.0f}",
    ]


if __name__ == "__main__":
    main()
