"""A small sample of the calibration images, the same for any order or batching of the loader."""

from __future__ import annotations

import hashlib
import heapq

import torch
from torch import Tensor

_SAMPLE_BYTES = 10 << 20
_SMALLEST, _LARGEST = 16, 256


class ContentSample:
    """Keeps the samples whose content hashes are smallest: 16 to 256 of them, about 10 MiB."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Tensor]] = []
        self._seen = 0

    def update(self, batch: Tensor) -> None:
        """Considers each sample of a batch [N, ...]."""
        for sample in batch:
            data = sample.detach().cpu().contiguous()
            digest = hashlib.blake2b(data.numpy().tobytes(), digest_size=8).digest()
            self._seen += 1
            entry = (-int.from_bytes(digest, "big"), -self._seen, data)
            capacity = min(max(_SAMPLE_BYTES // max(data.nbytes, 1), _SMALLEST), _LARGEST)
            if len(self._heap) < capacity:
                heapq.heappush(self._heap, (*entry[:2], data.clone()))
            elif entry[0] > self._heap[0][0]:
                heapq.heapreplace(self._heap, (*entry[:2], data.clone()))

    def tensor(self) -> Tensor:
        """The sample, [K, ...], ordered by hash."""
        ordered = sorted(self._heap, key=lambda entry: -entry[0])
        return torch.stack([data for _, _, data in ordered])
