"""The training loop: the same steps in one process or several, and after any interruption."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from snnconvert.errors import ConfigurationError, ConversionError
from snnconvert.training.averaging import Average
from snnconvert.training.batches import Batch, Indexed, Order, first_inputs, training_batches
from snnconvert.training.checkpoint import differing, load_checkpoint, save_checkpoint
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.logs import CsvLog, Log, Logs
from snnconvert.training.objective import Distance, Objective
from snnconvert.training.schedule import make_optimizer, set_rate
from snnconvert.training.trainee import Trainee, are_finite, trained_parameters

Validate = Callable[[nn.Module], Mapping[str, float]]
LOG = "log.csv"
_EXAMPLES = 16


@dataclass(frozen=True)
class Course:
    """Where a run keeps what it has reached, and how it says so.

    Attributes:
        folder: of checkpoints and logs; None: neither.
        resume: go on from the checkpoint in the folder, if there is one.
        logs: further logs.
        progress: show a progress bar on stderr if it is a terminal.
        validate: called by the first process after each epoch with the network in evaluation mode, its parameters
            averaged; gives what to log.
    """

    folder: Path | None = None
    resume: bool = False
    logs: tuple[Log, ...] = ()
    progress: bool = False
    validate: Validate | None = None


def train(
    trainee: Trainee,
    data: Indexed,
    config: FinetuneConfig,
    teacher: nn.Module | None = None,
    course: Course | None = None,
    distance: Distance | None = None,
) -> int:
    """Trains a network in place, until the last epoch.

    In a group of several processes of ``torch.distributed`` every process calls this with the same arguments; each
    takes its share of every batch, and gradients are averaged. What is learned doesn't depend on the number of
    processes but for the order in which gradients are added up, and a run may go on with another number.

    Args:
        trainee: the network.
        data: samples.
        config: the settings.
        teacher: the ANN to distil from, in evaluation mode, on the network's device.
        course: checkpoints, logs and progress.
        distance: of the network's outputs from the ANN's, where the configured ones don't suit.

    Returns:
        The number of steps done.

    Raises:
        InputError: if samples can't be used, or there is nothing to learn from.
        ConfigurationError: if a checkpoint belongs to other settings.
        ConversionError: if parameters become NaN or Inf.
        ArtifactError: if a checkpoint is damaged.
    """
    return _Run(trainee, data, config, teacher, course or Course(), distance).go()


class _Run:
    def __init__(
        self,
        trainee: Trainee,
        data: Indexed,
        config: FinetuneConfig,
        teacher: nn.Module | None,
        course: Course,
        distance: Distance | None,
    ) -> None:
        self._trainee, self._data, self._config = trainee, data, config
        self._teacher, self._course = teacher, course
        shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        rank, processes = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        self._order = Order(len(data), config.batch_size, config.seed, rank, processes)
        self._is_first = rank == 0
        self._device = next(trainee.module.parameters()).device
        self._parameters = trained_parameters(trainee)
        self._optimizer = make_optimizer(trainee.groups(), config)
        self._average = Average(self._parameters, config.ema)
        self._called: nn.Module = _shared(trainee.module) if shared else trainee.module
        self._steps = config.epochs * self._order.steps
        self._objective = Objective(config, self._example(), distance)

    def go(self) -> int:
        first = self._resumed()
        logs = self._logs(first)
        bar = tqdm(
            total=self._steps, initial=first, desc="training", unit="step",
            disable=None if self._course.progress and self._is_first else True,
        )  # fmt: skip
        done = first
        with logs, bar:
            for epoch in range(first // self._order.steps, self._config.epochs):
                start = done % self._order.steps
                for batch in self._batches(epoch, start):
                    measured = self._step(batch, done)
                    done += 1
                    bar.update()
                    at_end = done % self._order.steps == 0
                    if at_end:
                        measured = {**measured, **self._validated()}
                    logs.write(done - 1, {"epoch": float(epoch), **measured})
                    every = self._config.checkpoint_steps
                    if (done % every == 0) if every else at_end:
                        self._save(done)
        self._average.keep()
        return done

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        config = self._config
        return training_batches(self._data, self._order, epoch, start, config.augmentation, config.mixup)

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        """One optimizer step; what it measured."""
        progress = step / self._steps
        rate = set_rate(self._optimizer, self._config, step, self._steps)
        parts = batch.split(min(self._config.accumulate, len(batch.inputs)))
        losses: dict[str, float] = {}
        self._optimizer.zero_grad()
        for index, part in enumerate(parts):
            waits = index < len(parts) - 1 and isinstance(self._called, DistributedDataParallel)
            with self._called.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                terms = self._terms(part.to(self._device), progress)
                total = torch.stack(list(terms.values())).sum() / len(parts)
                total.backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                losses[name] = losses.get(name, 0.0) + float(value.detach()) / len(parts)
        losses = self._mean(losses)
        if self._config.clip:
            nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimizer.step()
        self._average.update()
        is_due = step % 50 == 0 or step == self._steps - 1
        if (is_due or not all(map(math.isfinite, losses.values()))) and not are_finite(self._parameters):
            raise ConversionError(
                f"training diverged: parameters are NaN or Inf after step {step}; lower the learning rate"
            )
        return {"learning rate": rate, **losses, **self._trainee.after_step((step + 1) / self._steps)}

    def _terms(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        reference = None
        config = self._config
        is_asked = config.distillation or config.block_distillation or not batch.is_labelled
        if self._teacher is not None and is_asked:
            with torch.no_grad():
                reference = self._teacher(batch.inputs)
        reduced = torch.bfloat16 if self._config.precision == "bfloat16" else None
        with torch.autocast(self._device.type, reduced, enabled=reduced is not None):
            output = self._called(batch.inputs)
        return {
            "loss": self._objective(output, batch.labels, reference, batch.mixing),
            **self._trainee.penalties(progress),
        }

    def _example(self) -> Any:
        """What the ANN gives for a few samples, the same in every process."""
        if self._teacher is None:
            return None
        with torch.no_grad():
            return self._teacher(first_inputs(self._data, _EXAMPLES).to(self._device))

    def _mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over all processes."""
        if self._order.processes == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, (total / self._order.processes).tolist(), strict=True))

    def _validated(self) -> dict[str, float]:
        if self._course.validate is None or not self._is_first:
            return {}
        module = self._trainee.module
        with self._average.in_place():
            module.eval()
            found = dict(self._course.validate(module))
        module.train()
        return found

    def _logs(self, first: int) -> Logs:
        if not self._is_first:
            return Logs()
        folder = self._course.folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        own = () if folder is None else (CsvLog(folder / LOG, first),)
        return Logs(*own, *self._course.logs)

    def _save(self, done: int) -> None:
        if self._course.folder is None or not self._is_first:
            return
        state = {
            "step": done,
            "settings": self._identity(),
            "parameters": [parameter.detach().cpu() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state(),
            "trainee": self._trainee.state(),
        }
        save_checkpoint(self._course.folder, state)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        shapes = [list(parameter.shape) for parameter in self._parameters]
        return {**self._config.to_dict(), "samples": len(self._data), "shapes": shapes}

    def _resumed(self) -> int:
        """The step to go on with."""
        if self._course.folder is None or not self._course.resume:
            return 0
        state = load_checkpoint(self._course.folder)
        if state is None:
            return 0
        mine, theirs = self._identity(), state["settings"]
        for name in ("checkpoint_steps", "accumulate"):
            mine.pop(name)
            theirs.pop(name, None)
        different = differing(mine, theirs)
        if different:
            raise ConfigurationError(
                f"the checkpoint in {self._course.folder} is of a run with other {', '.join(different)}: use the "
                "settings it began with, or another folder"
            )
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.load(state["average"])
        self._trainee.load(state["trainee"])
        return int(state["step"])


def _shared(module: nn.Module) -> DistributedDataParallel:
    """A module whose gradients are averaged over all processes; its buffers are each process's own."""
    new = "forward_sync_buffers"  # the name since torch 2.15, where the old one warns
    known = new in inspect.signature(DistributedDataParallel.__init__).parameters
    option: dict[str, Any] = {new if known else "broadcast_buffers": False}
    return DistributedDataParallel(module, **option)
