"""Which images calibrate and which evaluate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnconvert.errors import InputError


@dataclass(frozen=True)
class Split:
    """Two disjoint sets of indices.

    Attributes:
        calibration: Indices in random order.
        evaluation: Indices in ascending order.
        halved: Whether there were too few images for both wishes, so that they share what there is.
    """

    calibration: tuple[int, ...]
    evaluation: tuple[int, ...]
    halved: bool


def check_counts(calibration_images: int, evaluation_images: int | None, seed: int) -> None:
    """Checks the numbers a caller asked for.

    Args:
        calibration_images: Wanted calibration images.
        evaluation_images: Wanted evaluation images; None for all.
        seed: Of the random choice.

    Raises:
        InputError: A count below 1, or a negative seed.
    """
    if calibration_images < 1:
        raise InputError(f"calibration_images is {calibration_images}: ask for at least 1 image")
    if evaluation_images is not None and evaluation_images < 1:
        raise InputError(f"evaluation_images is {evaluation_images}: ask for at least 1 image")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")


def split_indices(total: int, calibration: int, evaluation: int | None, seed: int) -> Split:
    """Splits 0..total-1 into disjoint calibration and evaluation indices.

    With enough images both sets get the size asked for; with too few, calibration gets at most half of
    them and evaluation at most the rest. `evaluation=None` asks for all that calibration leaves, and for
    at least as many as calibration gets.

    Args:
        total: Number of images, at least 2.
        calibration: Wanted calibration images, at least 1.
        evaluation: Wanted evaluation images, at least 1; None for all that are left.
        seed: Same seed, same split.

    Returns:
        The split; neither side is empty.

    Raises:
        InputError: Fewer than 2 images.
    """
    if total < 2:
        raise InputError(f"{total} image(s) can't be split: calibration and evaluation need at least 1 each")
    halved = calibration + (calibration if evaluation is None else evaluation) > total
    if halved:
        calibration = min(calibration, total // 2)
    left = total - calibration
    count = left if evaluation is None else min(evaluation, left)
    order = np.random.default_rng(seed).permutation(total)
    return Split(
        calibration=tuple(order[:calibration].tolist()),
        evaluation=tuple(sorted(order[calibration : calibration + count].tolist())),
        halved=halved,
    )


def choose_indices(total: int, wanted: int, seed: int) -> tuple[int, ...]:
    """Chooses indices out of 0..total-1 without repetition.

    Args:
        total: Number of images.
        wanted: Indices to choose; all of them if there are fewer.
        seed: Same seed, same choice.

    Returns:
        The indices in random order.
    """
    return tuple(np.random.default_rng(seed).permutation(total)[:wanted].tolist())


def describe_split(what: str, split: Split, seed: int) -> str:
    """Words a random split for the report.

    Args:
        what: The images that were split.
        split: The split.
        seed: Of the split.

    Returns:
        One sentence.
    """
    halved = " (too few for the numbers asked for, so halved)" if split.halved else ""
    return (
        f"Of {what}, {len(split.calibration):,} for calibration and {len(split.evaluation):,} others "
        f"for evaluation, split at random with seed {seed}{halved}."
    )
