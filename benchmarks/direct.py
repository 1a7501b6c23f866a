"""What the benchmarks of directly trained networks share: one row for each setting, over several seeds."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.real_data import emit, emit_table
from benchmarks.setting import Setting
from snnconvert.models.reproducible import reproducible
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.network import SmallNet
from snnconvert.report import account
from snnconvert.training.direct.augment import Augmentation
from snnconvert.training.direct.fit import FitSettings, decided_right, fit
from snnconvert.training.direct.settings import NeuronSettings

_ACCOUNTED = 32


@dataclass(frozen=True)
class Examples:
    """Inputs and labels for training and for testing.

    Attributes:
        train: [N, C, H, W] or [T, N, C, H, W], and labels [N].
        test: the same.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Experiment:
    """One network, trained from scratch at several settings.

    Attributes:
        build: gives it.
        examples: what it sees at a number of time steps: one training and test set, or several that share no test.
        augment: of training batches.
        in_channels: of the inputs.
        batch_size: examples in a step.
    """

    build: Callable[[SmallNetConfig], SmallNet]
    examples: Callable[[int], Sequence[Examples]]
    augment: Augmentation | None
    in_channels: int
    batch_size: int = 64


def add_options(parser: argparse.ArgumentParser, *, settings: list[str], width: int, epochs: int, seeds: int) -> None:
    """What both commands may be told."""
    parser.add_argument("--settings", nargs="+", type=Setting.parse, default=[Setting.parse(text) for text in settings])
    parser.add_argument("--neuron", choices=("if", "lif", "packed"), default="if")
    parser.add_argument("--width", type=int, default=width, help="channels of the first stage")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seeds", type=int, default=seeds, help="runs with other weights and order, 0, 1, ...")
    parser.add_argument("--ann", action="store_true", help="the ANN, too")
    parser.add_argument("--threads", type=int, default=2)


def rows_of(experiment: Experiment, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Trains every setting with every seed."""
    rows = []
    for setting in options.settings:
        neuron = NeuronSettings(options.neuron, setting.bits, setting.T)
        config = SmallNetConfig(
            "snn", setting.weight_bits, neuron, in_channels=experiment.in_channels, width=options.width
        )
        rows.append(_row(experiment, config, setting.T, options))
    if options.ann:
        ann = SmallNetConfig("ann", in_channels=experiment.in_channels, width=options.width)
        rows.append(_row(experiment, ann, 1, options))
    return rows


def _row(experiment: Experiment, config: SmallNetConfig, T: int, options: argparse.Namespace) -> dict[str, Any]:
    folds = experiment.examples(T)
    seconds: list[float] = []
    right: list[Tensor] = []
    network = None
    for seed in range(options.seeds):
        found = []
        for examples in folds:
            network, taken = _trained(experiment, config, examples, seed, options)
            seconds.append(taken)
            found.append(decided_right(network, *examples.test))
        right.append(torch.cat(found).double())
        emit(f"{config.setting} seed {seed}: {100 * float(right[-1].mean()):.1f} %, {seconds[-1]:.0f} s")
    assert network is not None
    scores = [float(one.mean()) for one in right]
    return {
        "setting": config.setting,
        "neuron": config.neuron.kind if config.form == "snn" else None,
        "bit_budget": config.bit_budget,
        "accuracies": scores,
        "mean": statistics.mean(scores),
        "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
        "tested_on": len(right[0]),
        "right": torch.stack(right).mean(0).tolist(),
        "training_seconds": statistics.mean(seconds),
        **(_effort(network, folds[0].test[0]) if config.form == "snn" else {}),
    }


def _trained(
    experiment: Experiment, config: SmallNetConfig, examples: Examples, seed: int, options: argparse.Namespace
) -> tuple[SmallNet, float]:
    """A network that was trained from scratch, and the seconds it took."""
    with reproducible(seed):
        torch.set_num_threads(options.threads)
        network = experiment.build(config)
        began = time.perf_counter()
        settings = FitSettings(options.epochs, experiment.batch_size, seed=seed)
        fit(network, *examples.train, settings, experiment.augment)
        return network, time.perf_counter() - began


def gain(row: dict[str, Any], base: dict[str, Any]) -> tuple[float, float]:
    """How much more of the same examples one row gets right than another, and half the 95 % interval of that.

    Of seeds the mean is compared, example by example.
    """
    differences = [ours - theirs for ours, theirs in zip(row["right"], base["right"], strict=True)]
    return statistics.mean(differences), 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))


def _effort(network: SmallNet, inputs: Tensor) -> dict[str, Any]:
    is_event = inputs.dim() == 5
    chosen = inputs[:, :_ACCOUNTED] if is_event else inputs[:_ACCOUNTED]
    steps = network.config.steps
    counted = account(network, chosen, batch_dim=1 if is_event else 0, steps=steps)
    inner = [layer for layer in counted.layers if not layer.reads_input]
    return {
        "s_ace": sum(layer.s_ace for layer in inner),
        "ns_ace": sum(layer.ns_ace for layer in inner),
        "input_layer_s_ace": counted.totals.input_layer_s_ace,
    }


def emit_rows(rows: list[dict[str, Any]]) -> None:
    """One line for each setting."""
    header = (
        "b_w/b_s/T", "BB", "accuracy %", "by seed", "over the first", "S-ACE M", "NS-ACE M", "S-ACE of input layer M",
        "training s",
    )  # fmt: skip
    emit_table(header, [_cells(row, rows[0]) for row in rows])


def without_examples(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows without what tells of every single example."""
    return [{name: value for name, value in row.items() if name != "right"} for row in rows]


def _cells(row: dict[str, Any], first: dict[str, Any]) -> list[str]:
    spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
    more, interval = gain(row, first)
    return [
        row["setting"],
        str(row["bit_budget"]),
        f"{100 * row['mean']:.1f}{spread}",
        " ".join(f"{100 * score:.1f}" for score in row["accuracies"]),
        "" if row is first else f"{100 * more:+.1f} ± {100 * interval:.1f}",
        *(f"{row[name] / 1e6:.1f}" if name in row else "-" for name in ("s_ace", "ns_ace", "input_layer_s_ace")),
        f"{row['training_seconds']:.0f}",
    ]
