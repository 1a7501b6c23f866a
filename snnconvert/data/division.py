"""Divides what a data set holds into items to calibrate and items to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from snnconvert.data.splits import check_counts, choose_indices, describe_split, split_indices
from snnconvert.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Wishes:
    """How many images a caller wants.

    Attributes:
        calibration_images: To calibrate on; fewer if there are too few.
        evaluation_images: To evaluate on; None for all there are.
        seed: Of the random choices.
    """

    calibration_images: int = 128
    evaluation_images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self.calibration_images, self.evaluation_images, self.seed)


@dataclass(frozen=True)
class Pool(Generic[Item]):
    """Items, and the words for where they are."""

    items: Sequence[Item]
    where: str


@dataclass(frozen=True)
class Division(Generic[Item]):
    """Disjoint lists of items, and one sentence on how they were chosen."""

    calibration: list[Item]
    evaluation: list[Item]
    description: str


def divide(held_out: Pool[Item], training: Pool[Item] | None, wishes: Wishes) -> Division[Item]:
    """Chooses items at random, the same for the same seed.

    Args:
        held_out: Evaluates; without training items it is split, and no item is on both sides.
        training: Calibrates, if there is any.
        wishes: How many of each.

    Raises:
        InputError: There are too few items.
    """
    if training is None:
        return _split(held_out, wishes)
    total, seed = len(held_out.items), wishes.seed
    for pool in (held_out, training):
        if not pool.items:
            raise InputError(f"{pool.where} holds no images: add some")
    calibration = choose_indices(len(training.items), wishes.calibration_images, seed)
    evaluation: Sequence[int] = range(total)
    if wishes.evaluation_images is not None and wishes.evaluation_images < total:
        evaluation = sorted(choose_indices(total, wishes.evaluation_images, seed))
    return Division(
        [training.items[index] for index in calibration],
        [held_out.items[index] for index in evaluation],
        f"{len(evaluation):,} of the {total:,} images in {held_out.where} for evaluation, {len(calibration):,} of the "
        f"{len(training.items):,} images in {training.where} for calibration (seed {seed}).",
    )


def _split(pool: Pool[Item], wishes: Wishes) -> Division[Item]:
    total = len(pool.items)
    if total < 2:
        held = "1 image" if total else "no images"
        raise InputError(f"{pool.where} holds {held}: calibration and evaluation need at least 1 each, add more")
    split = split_indices(total, wishes.calibration_images, wishes.evaluation_images, wishes.seed)
    return Division(
        [pool.items[index] for index in split.calibration],
        [pool.items[index] for index in split.evaluation],
        describe_split(f"the {total:,} images in {pool.where}", split, wishes.seed),
    )
