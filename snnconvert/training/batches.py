"""The order of training samples: the same for any number of processes, from any step on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import torch
from torch import Tensor

from snnconvert.errors import InputError
from snnconvert.training.augmentation import augmented
from snnconvert.training.mixing import Mixing, Partners

NO_LABEL = -1


class Indexed(Protocol):
    """A data set: its items are inputs, or (input, label) pairs."""

    def __len__(self) -> int:
        """How many items it has."""

    def __getitem__(self, index: int) -> Any:
        """One of them."""


@dataclass(frozen=True)
class Batch:
    """Samples of one step, or one process's share of them.

    Attributes:
        inputs: [N, ...].
        labels: int64 [N], below 0 where there is none; None if none has one.
        mixing: what was mixed into them; None: nothing.
    """

    inputs: Tensor
    labels: Tensor | None
    mixing: Mixing | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether every sample has a label."""
        return self.labels is not None and bool((self.labels >= 0).all())

    def split(self, count: int) -> list[Batch]:
        """The batch in several parts of nearly the same size, which share its memory."""
        parts = torch.arange(len(self.inputs)).tensor_split(count)
        return [self._each(itemgetter(slice(int(part[0]), int(part[-1]) + 1))) for part in parts]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        labels = None if self.labels is None else change(self.labels)
        mixing = None if self.mixing is None else self.mixing.each(change)
        return Batch(change(self.inputs), labels, mixing)


@dataclass(frozen=True)
class Order:
    """Which samples a step takes.

    Every epoch is a permutation of all samples of its own, drawn from the seed and the epoch; a step takes the next
    ``batch_size`` of them, what remains at an epoch's end waits for another. Of each step's samples process r of P
    takes every P-th from r on, so that all processes together take what one would.

    Attributes:
        samples: how many there are.
        batch_size: samples a step, over all processes; at most as many as there are.
        seed: of the permutations and augmentations.
        rank: r.
        processes: P.
    """

    samples: int
    batch_size: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError("there are no training samples: give at least one")
        object.__setattr__(self, "batch_size", min(self.batch_size, self.samples))
        if self.batch_size % self.processes:
            raise InputError(
                f"a batch of {self.batch_size} samples can't be shared by {self.processes} processes: choose a batch "
                "size that is a multiple of their number"
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.samples // self.batch_size

    def indices(self, epoch: int, step: int) -> list[int]:
        """All samples of one step, by number."""
        order = torch.randperm(self.samples, generator=generator_of(self.seed, "order", epoch))
        return order[step * self.batch_size : (step + 1) * self.batch_size].tolist()

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """This process's items of a step."""
        return items[self.rank :: self.processes]


def generator_of(seed: int, *what: object) -> torch.Generator:
    """Random numbers of a seed for one purpose."""
    digest = hashlib.sha256(repr((seed, *what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def training_batches(
    data: Indexed, order: Order, epoch: int, first_step: int, augmentation: str, mixup: float = 0.0
) -> Iterator[Batch]:
    """This process's samples of the steps of an epoch.

    Args:
        data: the samples.
        order: which of them when.
        epoch: from 0.
        first_step: the step to begin with.
        augmentation: see :class:`~snnconvert.training.config.FinetuneConfig`.
        mixup: α, likewise.

    Raises:
        InputError: if an item isn't a tensor or a pair of a tensor and a label, or holds NaN or Inf.
    """
    for step in range(first_step, order.steps):
        chosen = order.indices(epoch, step)
        own = order.share(range(len(chosen)))
        partners = Partners.draw(len(chosen), mixup, generator_of(order.seed, "mixup", epoch, step)) if mixup else None
        positions = own if partners is None else sorted({*own, *(partners.numbers[number] for number in own)})
        items = [_item(data, chosen[position]) for position in positions]
        inputs = torch.stack([item[0] for item in items])
        if not torch.isfinite(inputs).all():
            raise InputError(f"training samples of step {step} hold NaN or Inf: clean the data")
        if augmentation != "none":
            random = generator_of(order.seed, "augmentation", epoch, step)
            inputs = augmented(inputs, augmentation, random, len(chosen), positions)
        labels = torch.tensor([item[1] for item in items])
        batch = Batch(inputs, None if bool((labels < 0).all()) else labels)
        yield batch if partners is None else _mixed(batch, partners, positions, own)


def _mixed(batch: Batch, partners: Partners, positions: Sequence[int], own: Sequence[int]) -> Batch:
    """The samples at ``own``, mixed; those of the batch are at ``positions``."""
    place = {position: index for index, position in enumerate(positions)}
    mine, theirs = [place[number] for number in own], [place[partners.numbers[number]] for number in own]
    shares = partners.shares[list(own)]
    inputs = torch.lerp(batch.inputs[theirs], batch.inputs[mine], _beside(shares, batch.inputs))
    if batch.labels is None:
        return Batch(inputs, None, Mixing(shares, None))
    own_labels, others = batch.labels[mine], batch.labels[theirs]
    is_known = (own_labels >= 0) & (others >= 0)
    return Batch(inputs, torch.where(is_known, own_labels, NO_LABEL), Mixing(shares, others))


def _beside(values: Tensor, samples: Tensor) -> Tensor:
    """One number for each sample, to multiply with samples."""
    return values.to(samples.dtype).view(-1, *(1 for _ in samples.shape[1:]))


def first_inputs(data: Indexed, most: int) -> Tensor:
    """The first few samples as they are, [n, ...].

    Raises:
        InputError: as :func:`training_batches`.
    """
    return torch.stack([_item(data, index)[0] for index in range(min(most, len(data)))])


def _item(data: Indexed, index: int) -> tuple[Tensor, int]:
    item = data[index]
    label = NO_LABEL
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item, label = item
        label = int(label)
    if not isinstance(item, Tensor) or not item.is_floating_point():
        raise InputError(
            f"training sample {index} is {type(item).__name__}, expected a floating-point tensor or (tensor, label)"
        )
    return item, max(label, NO_LABEL)
