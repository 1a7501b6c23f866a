"""A small sample of the calibration inputs, the same for any order or batching of the loader."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import torch
from torch import Tensor

_SAMPLE_BYTES = 32 << 20
_LARGE_SAMPLE_BYTES = 64 << 20
_TRAINING_BYTES = 256 << 20
_FEWEST, _SMALLEST, _LARGEST, _LARGEST_FOR_TRAINING = 4, 16, 256, 1024
_FEWEST_HELD_OUT, _MOST_HELD_OUT = 8, 64
_SIZES = 4

Shapes = tuple[tuple[int, ...], ...]
_Entry = tuple[int, int, tuple[Tensor, ...]]


class ContentSample:
    """Keeps the samples whose content hashes are smallest: 16 to 256 of them, about 32 MiB; fewer very large ones.

    The next, up to 64 and no more than these, are held out. For training it keeps more: 1,024 of them, about 256 MiB,
    without those held out.

    Of samples of several sizes it keeps those of four sizes, chosen by hashes of the sizes alone, and gives
    the ones of the size that came most often among these.
    """

    def __init__(self, *, training: bool = False) -> None:
        self._training = training
        self._heaps: dict[Shapes, list[_Entry]] = {}
        self._counts: dict[Shapes, int] = {}
        self._seen = 0

    def update(self, *batch: Tensor) -> None:
        """Considers each sample of a batch, given as tensors [N, ...]."""
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in batch)
        if not self._takes(shapes):
            return
        for parts in zip(*batch, strict=True):
            self._consider([part.detach().cpu().contiguous() for part in parts], self._heaps[shapes])
            self._counts[shapes] += 1

    def merge(self, other: ContentSample) -> None:
        """Considers all that another sample has considered."""
        for shapes, heap in other._heaps.items():
            if self._takes(shapes):
                self._counts[shapes] += other._counts[shapes]
                for rank, _, parts in heap:
                    self._keep(rank, parts, self._heaps[shapes])

    def _takes(self, shapes: Shapes) -> bool:
        if shapes not in self._heaps:
            chosen = sorted([*self._heaps, shapes], key=_digest_of_shapes)[:_SIZES]
            if shapes not in chosen:
                return False
            self._heaps = {**{kept: self._heaps[kept] for kept in chosen if kept in self._heaps}, shapes: []}
            self._counts = {**{kept: self._counts[kept] for kept in chosen if kept in self._counts}, shapes: 0}
        return True

    def _consider(self, sample: Sequence[Tensor], heap: list[_Entry]) -> None:
        digest = hashlib.blake2b(digest_size=8)
        for part in sample:
            digest.update(part.numpy().tobytes())
        self._keep(-int.from_bytes(digest.digest(), "big"), sample, heap)

    def _keep(self, rank: int, sample: Sequence[Tensor], heap: list[_Entry]) -> None:
        """Keeps a sample of this rank, the negative of its hash, if it is among the highest."""
        self._seen += 1
        size = sum(part.nbytes for part in sample)
        capacity = _capacity(size, training=self._training) + _held_out(size)
        if len(heap) < capacity:
            heapq.heappush(heap, (rank, -self._seen, tuple(part.clone() for part in sample)))
        elif rank > heap[0][0]:
            heapq.heapreplace(heap, (rank, -self._seen, tuple(part.clone() for part in sample)))

    def tensors(self, *, training: bool = False) -> tuple[Tensor, ...]:
        """The sample, a [K, ...] for each input, ordered by hash; for training with all that was kept for it."""
        ordered, size = self._ordered()
        kept = ordered[: _capacity(size)]
        return _stacked([*kept, *ordered[_capacity(size) + _held_out(size) :]] if training else kept)

    def held_out(self) -> tuple[Tensor, ...]:
        """Samples that are in none of the others; () if there are fewer than 8."""
        ordered, size = self._ordered()
        found = ordered[_capacity(size) : _capacity(size) + _held_out(size)]
        return _stacked(found) if len(found) >= _FEWEST_HELD_OUT else ()

    def _ordered(self) -> tuple[list[_Entry], int]:
        """The samples of the size that came most often, by hash, and the bytes of one."""
        shapes = min(self._heaps, key=lambda key: (-self._counts[key], key))
        ordered = sorted(self._heaps[shapes], key=lambda entry: -entry[0])
        return ordered, sum(part.nbytes for part in ordered[0][2])


def _stacked(entries: Sequence[_Entry]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(parts) for parts in zip(*(data for _, _, data in entries), strict=True))


def _held_out(size: int) -> int:
    """How many samples of so many bytes are held out."""
    return min(_capacity(size), _MOST_HELD_OUT)


def _capacity(size: int, *, training: bool = False) -> int:
    """How many samples of so many bytes are kept."""
    size = max(size, 1)
    fewest = min(max(_LARGE_SAMPLE_BYTES // size, _FEWEST), _SMALLEST)
    if training:
        return min(max(_TRAINING_BYTES // size, fewest), _LARGEST_FOR_TRAINING)
    return min(max(_SAMPLE_BYTES // size, fewest), _LARGEST)


def _digest_of_shapes(shapes: Shapes) -> bytes:
    return hashlib.blake2b(repr(shapes).encode(), digest_size=8).digest()
