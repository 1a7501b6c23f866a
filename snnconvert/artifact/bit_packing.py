"""Integers of 1 to 8 bits, one behind the other without gaps.

A number of b bits takes b bits, least significant first; the first number starts at the least significant bit of the
first byte, and what is left of the last byte is zero. Weights of b ≥ 2 bits are two's complement, those of one bit
are 0 for −1 and 1 for +1. Where the channels of a weight differ in width, those of one width lie together in their
own order, narrow before wide, and each such group starts at a byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
FEWEST_BITS, MOST_BITS = 1, 8
_TOGETHER = 8  # that many numbers of b bits are b whole bytes


def packed_size(count: int, bits: int) -> int:
    """⌈count·bits/8⌉, the bytes that numbers take."""
    return -(-count * bits // 8)


def pack_bits(numbers: Bytes, bits: int) -> Bytes:
    """Packs numbers [n] below 2^bits.

    Args:
        numbers: the numbers; bits above the width are cut off.
        bits: their width, 1..8.

    Returns:
        ⌈n·bits/8⌉ bytes.
    """
    words = np.zeros(-(-len(numbers) // _TOGETHER), dtype="<u8")
    mask = np.uint8((1 << bits) - 1)
    for place in range(_TOGETHER):
        column = numbers[place::_TOGETHER] & mask
        words[: len(column)] |= column.astype(np.uint64) << np.uint64(place * bits)
    whole = words.view(np.uint8).reshape(-1, _TOGETHER)[:, :bits]
    packed: Bytes = whole.reshape(-1)[: packed_size(len(numbers), bits)].copy()
    return packed


def unpack_bits(data: Bytes, count: int, bits: int) -> Bytes:
    """The numbers [count] that :func:`pack_bits` packed.

    Raises:
        ValueError: if the bytes are not as many as the numbers take, or bits behind the last number are set.
    """
    if len(data) != packed_size(count, bits):
        raise ValueError(f"{len(data)} bytes hold no {count} numbers of {bits} bits")
    if count * bits % 8 and data[-1] >> (count * bits % 8):
        raise ValueError("bits behind the last number are set")
    groups = -(-count // _TOGETHER)
    filled = np.zeros(groups * bits, dtype=np.uint8)
    filled[: len(data)] = data
    words = np.zeros((groups, _TOGETHER), dtype=np.uint8)
    words[:, :bits] = filled.reshape(groups, bits)
    packed = words.view("<u8").reshape(-1)
    numbers = np.empty((groups, _TOGETHER), dtype=np.uint8)
    for place in range(_TOGETHER):
        numbers[:, place] = (packed >> np.uint64(place * bits)) & np.uint64((1 << bits) - 1)
    unpacked: Bytes = numbers.reshape(-1)[:count]
    return unpacked


def fewest_bits(weight: NDArray[np.int8]) -> Bytes:
    """The fewest bits that hold the integers of each channel, uint8 [O], for weights [O, ...].

    One where they are all ±1, else the fewest b ≥ 2 with −2^(b−1) ≤ w < 2^(b−1).
    """
    flat = weight.reshape(len(weight), math.prod(weight.shape[1:]))
    low, high = flat.min(1, initial=0).astype(np.int16), flat.max(1, initial=0).astype(np.int16)
    widths = np.full(len(flat), 2, dtype=np.uint8)
    for bits in range(2, MOST_BITS):
        widths += (low < -(1 << bits - 1)) | (high >= 1 << bits - 1)
    only_ones = (low >= -1) & (high <= 1) & (flat != 0).all(1) if flat.shape[1] else np.ones(len(flat), dtype=bool)
    widths[only_ones] = 1
    return widths


def pack_channels(weight: NDArray[np.int8], widths: Bytes) -> Bytes:
    """Packs weights [O, ...], each channel at its width [O], no less than :func:`fewest_bits`."""
    groups = [pack_bits(_as_numbers(weight[widths == bits], bits), bits) for bits in _present(widths)]
    return np.concatenate(groups) if groups else np.zeros(0, dtype=np.uint8)


def unpack_channels(data: Bytes, shape: Sequence[int], widths: Bytes) -> NDArray[np.int8]:
    """The weights [O, ...] that :func:`pack_channels` packed.

    Args:
        data: the bytes.
        shape: of the weights.
        widths: of the channels, 1..8, [O].

    Raises:
        ValueError: if the bytes don't fit the shape and widths.
    """
    size = math.prod(shape[1:])
    sizes = {bits: packed_size(int((widths == bits).sum()) * size, bits) for bits in _present(widths)}
    if sum(sizes.values()) != len(data):
        raise ValueError(f"{len(data)} bytes hold no weights of shape {list(shape)}")
    weight = np.empty(tuple(shape), dtype=np.int8)
    start = 0
    for bits, length in sizes.items():
        own = widths == bits
        numbers = unpack_bits(data[start : start + length], int(own.sum()) * size, bits)
        weight[own] = _as_integers(numbers, bits).reshape(-1, *shape[1:]) if size else 0
        start += length
    return weight


def _present(widths: Bytes) -> list[int]:
    return [int(bits) for bits in np.unique(widths)]


def _as_numbers(weight: NDArray[np.int8], bits: int) -> Bytes:
    flat = weight.reshape(-1)
    numbers: Bytes = (flat > 0).astype(np.uint8) if bits == 1 else flat.view(np.uint8)
    return numbers


def _as_integers(numbers: Bytes, bits: int) -> NDArray[np.int8]:
    unused = MOST_BITS - bits
    integers: NDArray[np.int8] = (numbers << np.uint8(unused)).view(np.int8) >> np.int8(unused)
    return np.where(numbers, np.int8(1), np.int8(-1)) if bits == 1 else integers
