"""TensorProto to torch.Tensor: sizes are proven from the bytes there are before anything is allocated."""

from __future__ import annotations

import math

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from snnconvert.errors import InputError
from snnconvert.models.onnx.dtypes import BITS, TORCH_TYPES, type_name
from snnconvert.models.onnx.external import ExternalData

_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


def to_tensor(proto: TensorProto, name: str, external: ExternalData) -> Tensor:
    """The values of a tensor of a file; floating types become float32, unsigned ones the next signed type.

    Args:
        proto: The tensor.
        name: What messages call it.
        external: Where data outside the file is read.

    Raises:
        InputError: if its shape, type and data contradict each other, or its type can't be used.
    """
    source = f"{external.path}: the tensor '{name}'"
    count = _element_count(proto, source)
    size = -(-count * BITS[proto.data_type] // 8)
    if proto.data_location == TensorProto.EXTERNAL:
        entries = {entry.key: entry.value for entry in proto.external_data}
        content = external.read(name, entries, size)
        proto = TensorProto(dims=proto.dims, data_type=proto.data_type, raw_data=content)
    _check_length(proto, source, count, size)
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{source} can't be decoded ({error}): export the model again") from None
    return _as_torch(array, TORCH_TYPES[proto.data_type])


def _element_count(proto: TensorProto, source: str) -> int:
    if proto.data_type not in TORCH_TYPES:
        raise InputError(
            f"{source} is of type {type_name(proto.data_type)}: only numbers and booleans of 4 to 64 bits are read"
        )
    if proto.HasField("segment"):
        raise InputError(f"{source} is split into segments, which no exporter writes: export the model again")
    if any(dim < 0 for dim in proto.dims):
        raise InputError(f"{source} has the shape {list(proto.dims)}: a dimension is negative")
    return math.prod(proto.dims)


def _check_length(proto: TensorProto, source: str, count: int, size: int) -> None:
    if proto.HasField("raw_data"):
        actual, expected, unit = len(proto.raw_data), size, "bytes"
    else:
        packed = BITS[proto.data_type] == 4
        actual = len(getattr(proto, _FIELDS.get(proto.data_type, "int32_data")))
        expected, unit = (-(-count // 2) if packed else count), "values"
    if actual != expected:
        shape = list(proto.dims)
        raise InputError(
            f"{source} of shape {shape} and type {type_name(proto.data_type)} takes {expected} {unit} "
            f"and holds {actual}: the file is damaged, export it again"
        )


def _as_torch(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return torch.from_numpy(np.array(array, dtype=np.float32))
    target = {torch.int8: np.int8, torch.uint8: np.uint8, torch.int16: np.int16, torch.int32: np.int32}.get(
        dtype, np.bool_ if dtype is torch.bool else np.int64
    )
    return torch.from_numpy(np.array(array).astype(target))
