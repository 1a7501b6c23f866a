"""Fine-tuning: the verb."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.evaluation import compare
from snnconvert.report.report import Report
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.batches import Indexed, first_inputs
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.loop import Course, train
from snnconvert.training.objective import Distance
from snnconvert.training.remeasure import remeasured
from snnconvert.training.sparsity import trainee_for

_SAMPLE = 64
_MEASURED_ON = "training images, as they are"


class Samples:
    """A data set of tensors.

    Args:
        inputs: float32 [N, ...].
        labels: int64 [N], or None.
    """

    def __init__(self, inputs: Tensor, labels: Tensor | None = None) -> None:
        if labels is not None and len(labels) != len(inputs):
            raise InputError(f"there are {len(inputs)} training samples and {len(labels)} labels: give one for each")
        self._inputs, self._labels = inputs, labels

    def __len__(self) -> int:
        """How many there are."""
        return len(self._inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An input and its label, −1 where there is none."""
        return self._inputs[index], -1 if self._labels is None else int(self._labels[index])


TrainingData = Indexed | Dataset[Any] | Tensor | tuple[Tensor, Tensor]


def finetune(
    snn: SpikingModel,
    data: TrainingData,
    config: FinetuneConfig | None = None,
    *,
    teacher: nn.Module | None = None,
    course: Course | None = None,
    distance: Distance | None = None,
) -> SpikingModel:
    """Trains a converted network's weights, biases, weight steps and thresholds, and gives what they are rounded to.

    The network runs in training what its integers would give, and gradients pass the roundings straight through
    (SpikePack, Shen et al., ICCV 2025; LSQ, Esser et al., ICLR 2020). What comes out is as wide, and as deep in
    time, as what went in. Networks of several processes of ``torch.distributed`` are trained together, see
    :func:`~snnconvert.training.loop.train`.

    Args:
        snn: the network; it is left as it is.
        data: training samples: a data set whose items are tensors or (tensor, label) pairs, a tensor [N, ...], or a
            pair of tensors (inputs, labels); a label below 0 is none.
        config: the settings.
        teacher: the ANN it was converted from, to distil from; needed where there are no labels.
        course: checkpoints, logs and progress.
        distance: gives how far the network's output is from the ANN's, where neither classes nor values suit: called
            with both, it gives a scalar; a detector's boxes, say, count only where there are objects.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        InputError: if samples can't be used, or there is nothing to learn from.
        ConfigurationError: if the network has several inputs, or a checkpoint is of other settings.
        ConversionError: if training diverges.
    """
    config = config or FinetuneConfig()
    if snn.signature.one_input is None:
        raise ConfigurationError(
            "fine-tuning takes networks with one input: train others in a loop of your own, with snn.train() and "
            "snn.finish_training()"
        )
    samples = as_indexed(data)
    trained = copy.deepcopy(snn)
    teacher = None if teacher is None else _frozen(teacher)
    trainee = trainee_for(trained, config)
    sample = first_inputs(samples, _SAMPLE).to(next(trained.parameters()).device)
    trainee.begin(sample)
    if config.block_distillation and teacher is not None:
        example = torch.cat([sample[:2].cpu()] * 2)[:2]
        teacher = trainee.distil_blocks(teacher, example, config.block_distillation)
    done = train(trainee, samples, config, teacher, course, distance)
    trained.finish_training()
    steps = f"{done:,} steps of {min(config.batch_size, len(samples))} samples"
    trained.report = _report(trained, sample, steps, config, teacher)
    return trained


def _report(
    trained: SpikingModel, sample: Tensor, steps: str, config: FinetuneConfig, teacher: nn.Module | None
) -> Report:
    measured = remeasured(trained, [sample], f"fine-tuned for {steps}")
    report = dataclasses.replace(measured, training=config.to_dict())
    if teacher is None:
        return report
    fidelity = compare(teacher, trained, [(sample, None)]).fidelity(_MEASURED_ON)
    return dataclasses.replace(report, fidelity=fidelity)


def as_indexed(data: TrainingData) -> Indexed:
    """Training data as the loop takes them.

    Raises:
        InputError: if they have no length, or no items by number.
    """
    if isinstance(data, Tensor):
        return Samples(data)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(item, Tensor) for item in data):
        return Samples(*data)
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise InputError(
            f"training data must be a data set with a length and items by number, a tensor or a pair of tensors, got "
            f"{type(data).__name__}; of a DataLoader give its data set"
        )
    return data


def _frozen(teacher: nn.Module) -> nn.Module:
    """The same module in evaluation mode; a copy where it isn't."""
    return teacher if not teacher.training else copy.deepcopy(teacher).eval()
