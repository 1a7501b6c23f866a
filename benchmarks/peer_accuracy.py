"""CIFAR-10's ResNet-20 in SpikingJelly and in snnconvert: ``python -m benchmarks.peer_accuracy``.

SpikingJelly (weights in float32, one bit a step) gets every recipe of its own and is compared by the best one at each
T, chosen on the very images of the comparison; both calibrate on the same images. Needs
``pip install 'snnconvert[peers]'``.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.config_options import add_field_option, field_arguments, positive
from benchmarks.markdown import replace_block, table_lines
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from benchmarks.row_store import Row, RowStore
from benchmarks.setting import Setting
from benchmarks.spikingjelly_recipes import RECIPES, convert_with, means_of_steps
from snnconvert.conversion import convert_whole
from snnconvert.errors import ConfigurationError, first_line

STEPS = (4, 8, 16, 32, 64)
OURS = (Setting(8, 1, 4), Setting(8, 2, 4))
_DEPTH, _BATCH, _IMAGES = 20, 20, 1000
_IDENTITY = ("run", "config", "calibration_images", "images")


@dataclass(frozen=True)
class Task:
    """The network, and the images both toolkits get.

    Attributes:
        ann: the network.
        calibration: images to calibrate on.
        images: to evaluate on.
        labels: their classes.
    """

    ann: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor

    def accuracy(self, network: nn.Module) -> float:
        """Of a network that gives logits."""
        with torch.no_grad():
            return self._right([network(batch) for batch in torch.split(self.images, _BATCH)])

    def accuracies_in_time(self, snn: nn.Module) -> dict[str, float]:
        """Of what SpikingJelly converted, at each T, whose name is a string as in JSON."""
        outputs = [means_of_steps(snn, batch, STEPS) for batch in torch.split(self.images, _BATCH)]
        return {
            str(T): self._right(list(of_steps)) for T, of_steps in zip(STEPS, zip(*outputs, strict=True), strict=True)
        }

    def _right(self, logits: list[Tensor]) -> float:
        return float((torch.cat(logits).argmax(1) == self.labels).double().mean())


def main(arguments: list[str] | None = None) -> None:
    """Converts with both and writes two tables."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("spikingjelly") is None:
        emit("left out: SpikingJelly isn't installed; pip install 'snnconvert[peers]'")
        return
    torch.set_num_threads(options.threads)
    try:
        store = RowStore("peer_accuracy", _IDENTITY, options.json)
        configs = {setting: setting.config(dict(options.set)) for setting in options.settings}
    except (ConfigurationError, ValueError) as error:
        parser.error(first_line(error))
    task = _load(options)
    common = {"calibration_images": len(task.calibration), "images": len(task.images)}
    peers = [_peer_row({"run": name, "config": None, **common}, task, store) for name in options.recipes]
    ours = []
    for setting, config in configs.items():
        row = {"run": str(setting), "config": config.to_dict(), **common}
        kept = store.find(row)
        if kept is None:
            kept = {**row, "accuracy": task.accuracy(convert_whole(task.ann, task.calibration, config, progress=False))}
            store.add(kept)
        ours.append({**kept, "steps_times_bits": setting.T * setting.bits})
    _emit(task.accuracy(task.ann), peers, ours, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.peer_accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--settings", type=Setting.parse, nargs="+", default=list(OURS), metavar="b_w/b_s/T")
    add_field_option(parser)
    parser.add_argument("--calibration-images", type=positive, default=512)
    parser.add_argument("--images", type=positive, default=_IMAGES)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows here; those already there stay")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables into this page")
    parser.add_argument("--block", default="peer accuracy", metavar="NAME", help="the page's block (%(default)s)")
    return parser


def _load(options: argparse.Namespace) -> Task:
    folder = require_data("cifar10")
    calibration, _ = load_cifar_images(folder, "train", options.calibration_images)
    images, labels = load_cifar_images(folder, "test", options.images)
    return Task(load_cifar_resnet(folder, _DEPTH), calibration, images, labels)


def _peer_row(row: Row, task: Task, store: RowStore) -> Row:
    kept = store.find(row)
    if kept is None:
        snn = convert_with(row["run"], task.ann, task.calibration)
        kept = {**row, "accuracy": task.accuracies_in_time(snn)}
        store.add(kept)
    emit(f"{row['run']}: done")
    return kept


def _emit(ann: float, peers: list[Row], ours: list[Row], options: argparse.Namespace) -> None:
    best = best_of(peers)
    tables = [_peer_table(peers, best), _our_table(ours, best)]
    for table in tables:
        emit()
        emit_table(*table)
    if options.markdown:
        lines = [f"`{_command(options)}`, {options.images} images, ANN {100 * ann:.1f} %:"]
        for table in tables:
            lines += ["", *table_lines(*table)]
        replace_block(options.markdown, options.block, lines)
    emit_json({"benchmark": "peer_accuracy", "ann": ann, "best": best, "peers": peers, "ours": ours})


def _command(options: argparse.Namespace) -> str:
    words = ["python", "-m", "benchmarks.peer_accuracy"]
    words += ["--recipes", *options.recipes] if options.recipes != list(RECIPES) else []
    words += ["--settings", *map(str, options.settings)] if options.settings != list(OURS) else []
    words += ["--images", str(options.images)] if options.images != _IMAGES else []
    words += field_arguments(options.set)
    return shlex.join(words)


def best_of(peers: Sequence[Row]) -> dict[int, float]:
    """The accuracy of the best recipe at each T."""
    return {T: max(row["accuracy"][str(T)] for row in peers) for T in STEPS}


def steps_to_reach(accuracy: float, best: dict[int, float]) -> int | None:
    """The fewest steps at which a recipe is at least that accurate; None if none is."""
    return min((T for T, reached in best.items() if reached >= accuracy), default=None)


def _peer_table(peers: list[Row], best: dict[int, float]) -> tuple[list[str], list[list[str]]]:
    header = ["SpikingJelly's recipe", *(f"T = {T}" for T in STEPS)]
    rows = [[row["run"], *(f"{100 * row['accuracy'][str(T)]:.1f}" for T in STEPS)] for row in peers]
    return header, [*rows, ["best", *(f"{100 * best[T]:.1f}" for T in STEPS)]]


def _our_table(ours: list[Row], best: dict[int, float]) -> tuple[list[str], list[list[str]]]:
    header = ["snnconvert b_w/b_s/T", "T·b", "accuracy %", "SpikingJelly as accurate at", "times fewer T·b"]
    return header, [[*_our_cells(row), *_compared(row, best)] for row in ours]


def _our_cells(row: Row) -> list[str]:
    return [row["run"], str(row["steps_times_bits"]), f"{100 * row['accuracy']:.1f}"]


def _compared(row: Row, best: dict[int, float]) -> list[str]:
    steps = steps_to_reach(row["accuracy"], best)
    if steps is None:
        return [f"no T up to {max(best)}", f"more than {max(best) / row['steps_times_bits']:g}"]
    at_least = "at least " if steps == min(best) else ""
    return [f"T = {steps}", f"{at_least}{steps / row['steps_times_bits']:g}"]


if __name__ == "__main__":
    main()
