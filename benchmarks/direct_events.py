"""Time steps against spike bits at one budget on events, trained from scratch: ``python -m benchmarks.direct_events``.

The other half of the claim of Shen et al. (CVPR 2024), on 1,000 recordings of N-MNIST: where the input moves, time
steps are worth more than wide spikes. A recording is cut into as many frames as the network has steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.direct import Examples, Experiment, add_options, emit_rows, rows_of, without_examples
from benchmarks.nmnist import SENSOR, load_recordings
from benchmarks.real_data import emit, emit_json, require_data
from snnconvert.data.event_sets import EventFrames
from snnconvert.models.small.vgg import vgg8
from snnconvert.training.direct.augment import flip_and_crop


def main(arguments: list[str] | None = None) -> None:
    """Trains and tests every setting."""
    options = _parser().parse_args(arguments)
    folder = require_data("nmnist")
    examples = partial(_examples, folder, options.size, options.folds)
    rows = rows_of(Experiment(vgg8, examples, flip_and_crop(2, flip=False), SENSOR[2], batch_size=32), options)
    emit()
    emit_rows(rows)
    told = {name: getattr(options, name) for name in ("size", "neuron", "width", "epochs", "seeds", "folds")}
    emit_json({"benchmark": "direct_events", **told, "rows": without_examples(rows)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.direct_events", description=__doc__)
    parser.add_argument("--size", type=int, choices=(17, 34), default=17, help="pixels of the frames")
    parser.add_argument(
        "--folds", type=int, default=0,
        help="train on all recordings but a fold and test on it, for each of so many (0: the sample's split)",
    )  # fmt: skip
    add_options(parser, settings=["1/8/1", "1/2/4", "1/1/8"], width=8, epochs=12, seeds=3)
    return parser


def _examples(folder: Path, size: int, folds: int, T: int) -> list[Examples]:
    train, test = (_frames(folder, part, size, T) for part in ("train", "test"))
    if not folds:
        return [Examples(train, test)]
    frames, labels = torch.cat([train[0], test[0]], 1), torch.cat([train[1], test[1]])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = order.tensor_split(folds)
    return [_without(frames, labels, parts, fold) for fold in range(folds)]


def _without(frames: Tensor, labels: Tensor, parts: Sequence[Tensor], fold: int) -> Examples:
    others = torch.cat([part for index, part in enumerate(parts) if index != fold])
    return Examples((frames[:, others], labels[others]), (frames[:, parts[fold]], labels[parts[fold]]))


def _frames(folder: Path, part: str, size: int, T: int) -> tuple[Tensor, Tensor]:
    recordings = EventFrames(load_recordings(folder, part), SENSOR, T, "time", (size, size))
    pairs = [recordings[index] for index in range(len(recordings))]
    return torch.stack([frames for frames, _ in pairs], 1), torch.tensor([label for _, label in pairs])


if __name__ == "__main__":
    main()
