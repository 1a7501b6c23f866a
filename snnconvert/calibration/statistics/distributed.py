"""Calibration in several processes, each on its own part of the data: all end with what one would have seen.

Counts are added, of the samples those with the smallest hashes are kept, so that it doesn't matter which process sees
what. Every function is a collective of the default group of ``torch.distributed`` where that has several processes:
all of them must call it, and does nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram
from snnconvert.calibration.statistics.collect import Collector
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.errors import SnnConvertError
from snnconvert.inputs import Inputs

Item = TypeVar("Item")


def is_shared() -> bool:
    """Whether this process belongs to a group of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this is the only process, or the first of its group."""
    return not is_shared() or dist.get_rank() == 0


@contextmanager
def failing_together() -> Iterator[None]:
    """Raises what any process of the group raises within the context in all of them, so that none waits for others.

    Raises:
        SnnConvertError: the error of the first process that has one.
    """
    if not is_shared():
        yield
        return
    errors: list[SnnConvertError] = []
    try:
        yield
    except SnnConvertError as error:
        errors.append(error)
    for failed in _gathered(errors):
        if failed:
            raise failed[0]


def common_example(seen: Sequence[Inputs]) -> Inputs | None:
    """The first input of the first process that has any; None if no process has.

    Args:
        seen: this process's first inputs; none if its part of the data is empty.
    """
    if not is_shared():
        return seen[0] if seen else None
    return next((first for firsts in _gathered(list(seen[:1])) for first in firsts), None)


def share(collector: Collector) -> None:
    """Lets a collector hold what those of all processes have seen.

    Raises:
        InputError: if an input without a batch isn't the same in every process.
    """
    if not is_shared():
        return
    _add_up(collector.histograms)
    _add_up_channels(collector.channel_histograms)
    others = _gathered((collector.sample, collector.unbatched, collector.count))
    collector.sample, collector.unbatched, collector.count = collector.new_sample(), None, 0
    for sample, unbatched, count in others:
        collector.sample.merge(sample)
        collector.count += count
        if unbatched is not None:
            collector.check_unbatched(unbatched)


def _add_up(histograms: Sequence[ValueHistogram]) -> None:
    """Sums of the counts and extremes over all processes, in place."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    counts = torch.stack([histogram.counts for histogram in histograms]).to(device)
    lows = torch.tensor([histogram.minimum for histogram in histograms], dtype=torch.float64, device=device)
    highs = torch.tensor([histogram.maximum for histogram in histograms], dtype=torch.float64, device=device)
    finite = torch.tensor([int(histogram.finite) for histogram in histograms], device=device)
    dist.all_reduce(counts, dist.ReduceOp.SUM)
    dist.all_reduce(lows, dist.ReduceOp.MIN)
    dist.all_reduce(highs, dist.ReduceOp.MAX)
    dist.all_reduce(finite, dist.ReduceOp.MIN)
    merged = zip(counts.cpu().unbind(), lows.tolist(), highs.tolist(), finite.tolist(), strict=True)
    for histogram, (total, low, high, is_finite) in zip(histograms, merged, strict=True):
        histogram.counts, histogram.minimum, histogram.maximum = total, low, high
        histogram.finite = bool(is_finite)


def _add_up_channels(histograms: Sequence[ChannelHistogram]) -> None:
    """The same for the histograms of channels, of which a process without data knows nothing yet."""
    mine = dist.get_rank()
    for rank, others in enumerate(_gathered(list(histograms))):
        if rank != mine:
            for histogram, other in zip(histograms, others, strict=True):
                histogram.merge(other)


def _gathered(item: Item) -> list[Item]:
    """What every process gives, in the order of their ranks."""
    items: list[Item | None] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return [given for given in items if given is not None]
