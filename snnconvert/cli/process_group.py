"""The command under ``torchrun``: several processes calibrate, the first one evaluates, prints and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch.utils.data import Dataset, Subset

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's.

    Attributes:
        rank: its number, from 0.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that evaluates, prints and writes."""
        return self.rank == 0

    def of(self, dataset: Dataset[Any]) -> Dataset[Any]:
        """This process's items: every item is one process's, and none has over one more than another."""
        if self.processes == 1:
            return dataset
        return Subset(dataset, range(self.rank, len(dataset), self.processes))  # type: ignore[arg-type]

    def wait(self) -> None:
        """Until every process has come here."""
        if self.processes > 1:
            dist.barrier()


@contextmanager
def process_group() -> Iterator[Share]:
    """Joins the processes that ``torchrun`` has started, while the context lasts; alone, it does nothing."""
    if any(name not in os.environ for name in _VARIABLES) or int(os.environ["WORLD_SIZE"]) == 1:
        yield Share()
        return
    dist.init_process_group("gloo")
    try:
        yield Share(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
