"""What training begins with: a network of the run's own, a saved one, or a new conversion."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from snnconvert.api import calibrate, prepare
from snnconvert.artifact.atomic import replaced_file
from snnconvert.cli.convert_command import image_loader
from snnconvert.cli.process_group import Share
from snnconvert.config import ConversionConfig
from snnconvert.conversion import Finisher
from snnconvert.conversion import calibrate as calibrate_prepared
from snnconvert.data.images import ImageSets
from snnconvert.data.splits import choose_indices
from snnconvert.errors import ArtifactError, ConfigurationError, InputError, SnnConvertError, first_line
from snnconvert.spiking_model import SpikingModel, load
from snnconvert.training.checkpoint import differing

_START, _SETTINGS = "start", "conversion.json"


@dataclass(frozen=True)
class Beginning:
    """Where a run begins.

    Attributes:
        options: of the command.
        config: of the conversion.
        share: of this process.
        folder: of the run.
        ann: the ANN.
        images: to train on.
    """

    options: argparse.Namespace
    config: ConversionConfig
    share: Share
    folder: Path
    ann: nn.Module
    images: ImageSets

    def network(self) -> SpikingModel:
        """The network to train, which the run keeps.

        Raises:
            SnnConvertError: if a saved one can't be used, or nothing can be converted.
        """
        own = self.folder / _START
        if self.options.resume and own.is_dir():
            self._check_settings()
            snn = load(own)
            _check_fits(own, snn, self.ann, self.options.model)
            return snn
        if self.options.start is not None:
            snn = load(self.options.start)
            _check_fits(self.options.start, snn, self.ann, self.options.model)
        else:
            snn = self.converted()
        self.clear()
        if self.share.is_first:
            snn.save(own, force=True)
        self.share.wait()
        return snn

    def converted(self, learner: Finisher | None = None) -> SpikingModel:
        """A new conversion, calibrated on some of the training images; learned on all of them if something learns.

        Raises:
            SnnConvertError: if the network can't be converted.
        """
        images, options = self.images.calibration, self.options
        total = len(images)  # type: ignore[arg-type]
        chosen = choose_indices(total, min(options.calib_images, total), options.seed)
        loader = image_loader(self.share.of(Subset(images, chosen)), options)
        example = torch.stack([images[index % total][0] for index in range(2)])
        prepared = prepare(self.ann, example, self.config, narrow=learner is not None)
        if learner is None:
            return calibrate(prepared, loader, progress=not options.quiet)
        return calibrate_prepared(prepared, loader, progress=not options.quiet, finisher=learner)

    def clear(self) -> None:
        """Removes an earlier run that is to be replaced, and notes what this one converts.

        Raises:
            ConfigurationError: if the run that goes on converts something else.
        """
        if self.options.resume:
            self._check_settings()
        elif self.share.is_first and self.folder.is_dir():
            shutil.rmtree(self.folder)
        self.share.wait()
        if self.share.is_first:
            with replaced_file(self.folder / _SETTINGS) as path:
                path.write_text(json.dumps(self._settings(), indent=1), encoding="utf-8")

    def _settings(self) -> dict[str, Any]:
        """What the run's network comes from."""
        given = self.options.start is not None
        return {"model": self.options.model, "from": given, **({} if given else self.config.to_dict())}

    def _check_settings(self) -> None:
        path = self.folder / _SETTINGS
        if not path.is_file():
            return
        try:
            theirs = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} is damaged: {first_line(error)}") from None
        different = differing(self._settings(), theirs)
        if different:
            raise ConfigurationError(
                f"the run in {self.folder} has begun with other {', '.join(different)}: use what it began with, or "
                "another folder"
            )


def _check_fits(start: Path, snn: SpikingModel, ann: nn.Module, model: str) -> None:
    """Refuses a saved network of another shape than the one it would learn from."""
    shape = [size or 1 for size in snn.input_shape]
    with torch.no_grad():
        try:
            expected = ann(torch.zeros(1, *shape, device=next(ann.parameters()).device))
            found = snn(torch.zeros(1, *shape))
        except (RuntimeError, SnnConvertError) as error:
            raise InputError(f"{start} and {model} don't fit: {first_line(error)}") from None
    if expected.shape != found.shape:
        raise InputError(
            f"{start} gives {list(found.shape)}, {model} gives {list(expected.shape)}: name the "
            "network it was converted from"
        )
