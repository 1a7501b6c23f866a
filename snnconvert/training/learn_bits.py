"""Learned widths in the training loop: from a calibration pass to a spiking network."""

from __future__ import annotations

import dataclasses

from torch import nn

from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.conversion import Finisher
from snnconvert.finishing import thresholds_of
from snnconvert.preparation import PreparedConversion
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.batches import Indexed
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.landing import land
from snnconvert.training.learned_bits.network import LearnedBitsNetwork
from snnconvert.training.learned_bits.trainee import LearnedBitsTrainee
from snnconvert.training.loop import Course, train


def bits_learner(
    data: Indexed, widths: LearnedBitsConfig, config: FinetuneConfig, teacher: nn.Module | None, course: Course
) -> Finisher:
    """What makes a spiking network with learned widths of a calibration pass's statistics.

    Args:
        data: training samples.
        widths: which widths to learn.
        config: how to train; rates of widths, steps and T are multiples of its learning rate.
        teacher: the ANN to distil from.
        course: checkpoints, logs and progress; there is no network to validate before the widths are settled.
    """

    def finish(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
        thresholds, _ = thresholds_of(prepared, statistics)
        network = LearnedBitsNetwork(prepared, thresholds, widths)
        done = train(LearnedBitsTrainee(network), data, config, teacher, dataclasses.replace(course, validate=None))
        if not network.settled:
            network.settle()
        network.eval()
        snn = land(network, statistics)
        note = (
            f"widths learned in {done:,} steps of {min(config.batch_size, len(data))} samples, towards "
            f"{widths.target_weight_bits:g} weight bits, {widths.target_spike_bits:g} spike bits and "
            f"{widths.target_T:g} steps"
        )
        settings = {**config.to_dict(), "learned_bits": dataclasses.asdict(widths)}
        snn.report = dataclasses.replace(snn.report, notes=(*snn.report.notes, note), training=settings)
        return snn

    return finish
