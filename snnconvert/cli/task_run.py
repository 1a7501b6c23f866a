"""What ``snnconvert MODEL --task ...`` does the same way for every task."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from snnconvert.cli.convert_command import checked_target, needs_no_weights, photographs, settled
from snnconvert.config import ConversionConfig
from snnconvert.data.division import Wishes
from snnconvert.data.plain import without_labels
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import TaskSets
from snnconvert.energy.profile import DEFAULT_PROFILE, HardwareProfile, load_profile
from snnconvert.models.task_models import ModelRequest
from snnconvert.report.hardware import on_hardware
from snnconvert.report.report import Report
from snnconvert.tasks.evaluation import tasks_module


@dataclass(frozen=True)
class TaskRun:
    """The checked options of one run.

    Attributes:
        options: as parsed.
        config: the settings they stand for.
        device: where to compute.
        target: folder of the results.
        hardware: of the reports' energies.
    """

    options: argparse.Namespace
    config: ConversionConfig
    device: torch.device
    target: Path
    hardware: HardwareProfile

    @property
    def request(self) -> ModelRequest:
        """The network that is asked for; a plan needs no weights."""
        options = self.options
        return ModelRequest(
            options.model,
            options.checkpoint,
            options.random_weights or needs_no_weights(options),
            options.num_classes,
            options.image_size,
            options.seed,
        )

    @property
    def wishes(self) -> Wishes:
        """How many images."""
        return Wishes(self.options.calib_images, self.options.eval_images, self.options.seed)

    def photographs(self, preprocessing: Preprocessing) -> TaskSets:
        """Crops of photographs, where no data are given."""
        return without_labels(photographs(self.options, preprocessing))

    def priced(self, report: Report) -> Report:
        """The report with the energies of the hardware asked for."""
        return report if self.options.hardware == DEFAULT_PROFILE else on_hardware(report, self.hardware)

    def progress(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """The items of a loader behind a progress bar."""
        yield from tqdm(loader, desc="evaluating", unit="batch", disable=True if self.options.quiet else None)


def task_run(options: argparse.Namespace) -> TaskRun:
    """Checks the options before any work.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    config, device = settled(options)
    hardware = load_profile(options.hardware)
    return TaskRun(options, config, device, checked_target(options), hardware)


def check_sets(sets: TaskSets, *modules: str) -> TaskSets:
    """Refuses, before a long calibration, what an evaluation would stumble over: a missing extra, a bad first item.

    Raises:
        InputError: if a module of the extra isn't installed, or the first item can't be read.
    """
    if sets.labelled:
        for module in modules:
            tasks_module(module)
    for dataset in (sets.calibration, sets.evaluation):
        _ = dataset[0]
    return sets


def loader_of(dataset: Dataset[Any], options: argparse.Namespace, **settings: Any) -> DataLoader[Any]:
    """Batches, in their order."""
    return DataLoader(dataset, num_workers=options.workers, **settings)
