"""Interleaved timing: every network in turn, ratios within a round, medians over rounds."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved_ratios(
    runs: Mapping[str, Callable[[], object]], reference: str, rounds: int, warm_up: int = 1, pause: float = 0.0
) -> dict[str, float]:
    """Median over the rounds of each run's time divided by the reference's in the same round.

    Args:
        runs: what to time, by name.
        reference: the name of the run that counts as 1.
        rounds: number of rounds, each in an order of its own, so that no run always follows the same one.
        warm_up: untimed rounds before.
        pause: seconds between runs, in which the threads of the run before stop spinning.
    """
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for turn in range(-warm_up, rounds):
            for name in random.Random(turn).sample(names, len(names)):
                time.sleep(pause)
                began = time.perf_counter()
                runs[name]()
                if turn >= 0:
                    times[name].append(time.perf_counter() - began)
    return {
        name: statistics.median(own / base for own, base in zip(times[name], times[reference], strict=True))
        for name in names
    }
