"""The forms in which tensors are stored: as small as they go without losing a bit.

A tensor that is stored in another form than its own has an entry under ``tensors`` in graph.json:

    {"dtype": "float64"}
        stored with the same shape in a narrower type (float16, float32, int8, int16, int32) that holds its values.
    {"dtype": "float64", "shape": [64]}
        a table: stored under its name are its K ≤ 256 different values, in their own type or a narrower one, and under
        ``NAME.indices`` which of them each element is, max(1, ⌈log₂ K⌉) bits each.
    {"dtype": "float64", "scale": "0x1.4p-9"}, {"dtype": "float64", "scale": "0x1.4p-9", "shape": [64]}
        one of these two, but stored are the numbers that times the scale, rounded once, are the values.
    {"shape": [64, 32, 3, 3], "bits": 4}
        int8 weights, packed; see :mod:`snnconvert.artifact.bit_packing`.
    {"shape": [64, 32, 3, 3], "bits": null}
        the same, where channels differ in width: those widths, less one, are ``NAME.widths``, 3 bits each.

A tensor without an entry is stored as it is. Which form a tensor has follows from its values alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.artifact.bit_packing import (
    FEWEST_BITS,
    MOST_BITS,
    Bytes,
    fewest_bits,
    pack_bits,
    pack_channels,
    packed_size,
    unpack_bits,
    unpack_channels,
)
from snnconvert.artifact.common_factor import common_factor
from snnconvert.errors import ArtifactError, first_line

Form = dict[str, Any]
Array = NDArray[Any]

_NARROWER = {
    torch.float64: (torch.float16, torch.float32),
    torch.float32: (torch.float16,),
    torch.int64: (torch.int8, torch.int16, torch.int32),
    torch.int32: (torch.int8, torch.int16),
    torch.int16: (torch.int8,),
}
_TABLED = (*_NARROWER, torch.uint8)
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _TABLED}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_MOST_VALUES = 1 << MOST_BITS
_PROBED = 1 << 12
_WIDTH_BITS = 3
_ENTRY_BYTES, _TENSOR_BYTES = 64, 96  # what an entry in graph.json, and one more tensor in the file, cost about
_INDICES, _WIDTHS = "indices", "widths"


def to_stored(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Form]]:
    """Tensors in the smallest of their forms.

    Args:
        tensors: by name, on the CPU and contiguous.

    Returns:
        What is to be stored, by name, and the entries of the tensors that are not stored as they are.
    """
    stored: dict[str, Tensor] = {}
    forms: dict[str, Form] = {}
    for name, tensor in tensors.items():
        own, form = _smallest(name, tensor)
        stored.update(own)
        if form is not None:
            forms[name] = form
    return stored, forms


def from_stored(stored: Mapping[str, Tensor], forms: object) -> dict[str, Tensor]:
    """The tensors that :func:`to_stored` was given, bit for bit and in their types.

    Args:
        stored: what a file holds.
        forms: the entries of graph.json.

    Raises:
        ArtifactError: if an entry is malformed or doesn't fit what is stored, naming its tensor.
    """
    if not isinstance(forms, dict):
        raise ArtifactError(f"graph.json: the forms of tensors are {type(forms).__name__}, not an object")
    tensors = dict(stored)
    for name, form in forms.items():
        tensors[name] = _checked(name, form, tensors)
    return tensors


def _smallest(name: str, tensor: Tensor) -> tuple[dict[str, Tensor], Form | None]:
    """The first of the smallest forms, by bytes in all files."""
    plain: tuple[dict[str, Tensor], Form | None] = ({name: tensor}, None)
    return min([plain, *_other_forms(name, tensor)], key=lambda found: _cost(*found))


def _cost(stored: Mapping[str, Tensor], form: Form | None) -> int:
    content = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    return content + (len(stored) - 1) * _TENSOR_BYTES + (form is not None) * _ENTRY_BYTES


def _other_forms(name: str, tensor: Tensor) -> Iterator[tuple[dict[str, Tensor], Form]]:
    if tensor.numel() == 0:
        return
    if tensor.dtype == torch.int8 and tensor.dim() > 1:
        yield from _packed_forms(name, tensor)
    yield from _number_forms(name, tensor)
    factored = common_factor(tensor.numpy()) if tensor.dtype == torch.float64 else None
    if factored is not None:
        numbers, scale = factored
        for stored, form in _number_forms(name, torch.from_numpy(numbers).double()):
            yield stored, {**form, "scale": scale.hex()}


def _number_forms(name: str, tensor: Tensor) -> Iterator[tuple[dict[str, Tensor], Form]]:
    narrow = _narrowest(tensor)
    if narrow.dtype != tensor.dtype:
        yield {name: narrow}, {"dtype": _NAMES[tensor.dtype]}
    if tensor.dtype in _TABLED:
        yield from _table_forms(name, tensor)


def _packed_forms(name: str, tensor: Tensor) -> Iterator[tuple[dict[str, Tensor], Form]]:
    weight, shape = tensor.numpy(), list(tensor.shape)
    widths = fewest_bits(weight)
    widest = int(widths.max(initial=FEWEST_BITS))
    if widest < MOST_BITS:
        yield {name: _as_tensor(pack_channels(weight, np.full_like(widths, widest)))}, {"shape": shape, "bits": widest}
    if (widths < widest).any():
        packed, own = pack_channels(weight, widths), pack_bits(widths - np.uint8(FEWEST_BITS), _WIDTH_BITS)
        yield {name: _as_tensor(packed), f"{name}.{_WIDTHS}": _as_tensor(own)}, {"shape": shape, "bits": None}


def _narrowest(tensor: Tensor) -> Tensor:
    """A tensor in the first of the narrower types that holds its values bit for bit, or itself."""
    for dtype in _NARROWER.get(tensor.dtype, ()):
        narrow = tensor.to(dtype)
        if _same_bits(narrow.to(tensor.dtype), tensor):
            return narrow
    return tensor


def _same_bits(left: Tensor, right: Tensor) -> bool:
    return bool(np.array_equal(_bit_patterns(left.numpy()), _bit_patterns(right.numpy())))


def _bit_patterns(values: Array) -> Array:
    return np.ascontiguousarray(values).reshape(-1).view(f"u{values.itemsize}")


def _table_forms(name: str, tensor: Tensor) -> Iterator[tuple[dict[str, Tensor], Form]]:
    patterns = _bit_patterns(tensor.numpy())
    if len(np.unique(patterns[:_PROBED])) > _MOST_VALUES:
        return
    different, indices = np.unique(patterns, return_inverse=True)
    if len(different) > _MOST_VALUES:
        return
    values = _narrowest(torch.from_numpy(different.view(tensor.numpy().dtype)))
    packed = pack_bits(indices.astype(np.uint8), _index_bits(len(different)))
    stored = {name: values, f"{name}.{_INDICES}": _as_tensor(packed)}
    yield stored, {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape)}


def _index_bits(values: int) -> int:
    return max(1, (values - 1).bit_length())


def _checked(name: str, form: object, tensors: dict[str, Tensor]) -> Tensor:
    """:func:`_restored`, whose refusals name the tensor."""
    try:
        return _restored(name, form, tensors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else first_line(error)
        raise ArtifactError(f"model.safetensors: {name!r} doesn't fit its form in graph.json: {reason}") from None


def _restored(name: str, form: object, tensors: dict[str, Tensor]) -> Tensor:
    """A tensor from its form; takes what is stored beside it out of ``tensors``.

    Raises:
        KeyError: if a stored tensor is missing.
        TypeError, ValueError, OverflowError: if the form is malformed, or doesn't fit.
    """
    if not isinstance(form, dict):
        raise TypeError(f"it is {type(form).__name__}, not an object")
    if "dtype" in form:
        numbers = _scaled(_widened(tensors[name], form["dtype"]), form)
        if form.keys() - {"scale"} == {"dtype"}:
            return numbers
        if form.keys() - {"scale"} == {"dtype", "shape"}:
            return _looked_up(numbers, _as_bytes(tensors.pop(f"{name}.{_INDICES}")), _shape(form["shape"]))
    if form.keys() != {"shape", "bits"}:
        raise ValueError(f"{', '.join(map(str, form))} say no known form")
    shape, data = _shape(form["shape"]), _as_bytes(tensors[name])
    if form["bits"] is None:
        widths = unpack_bits(_as_bytes(tensors.pop(f"{name}.{_WIDTHS}")), shape[0], _WIDTH_BITS) + np.uint8(FEWEST_BITS)
    else:
        widths = _uniform(shape, form["bits"], len(data))
    return torch.from_numpy(unpack_channels(data, shape, widths))


def _widened(stored: Tensor, name: str) -> Tensor:
    dtype = _TYPES.get(name)
    if dtype is None or stored.dtype not in (dtype, *_NARROWER.get(dtype, ())):
        raise ValueError(f"no {name!r} is stored as {stored.dtype}")
    return stored.to(dtype)


def _scaled(numbers: Tensor, form: Form) -> Tensor:
    if "scale" not in form:
        return numbers
    scale = float.fromhex(form["scale"])
    if numbers.dtype != torch.float64 or not math.isfinite(scale):
        raise ValueError(f"{numbers.dtype} times {scale} is no form")
    return numbers * scale


def _looked_up(values: Tensor, data: Bytes, shape: list[int]) -> Tensor:
    if values.dim() != 1 or not 1 <= len(values) <= _MOST_VALUES:
        raise ValueError(f"a table of shape {list(values.shape)} is out of range")
    indices = unpack_bits(data, math.prod(shape), _index_bits(len(values)))
    if int(indices.max()) >= len(values):
        raise ValueError(f"a table of {len(values)} values has none of index {int(indices.max())}")
    return values[torch.from_numpy(indices).to(torch.int64)].reshape(shape)


def _uniform(shape: list[int], bits: object, size: int) -> Bytes:
    if type(bits) is not int or not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"{bits!r} is no width of {FEWEST_BITS} to {MOST_BITS} bits")
    if packed_size(math.prod(shape), bits) != size:
        raise ValueError(f"{size} bytes hold no weights of shape {shape} and {bits} bits")
    return np.full(shape[0], bits, dtype=np.uint8)


def _shape(sizes: object) -> list[int]:
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(f"{sizes!r} is no shape")
    return sizes


def _as_bytes(stored: Tensor) -> Bytes:
    if stored.dtype != torch.uint8 or stored.dim() != 1:
        raise ValueError(f"{stored.dtype} {list(stored.shape)} are no bytes")
    data: Bytes = stored.numpy()
    return data


def _as_tensor(data: Bytes) -> Tensor:
    return torch.from_numpy(data)
