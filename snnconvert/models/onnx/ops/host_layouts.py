"""Layouts of shapes: plain numbers in, plain numbers out."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.limits import MOST_HOST_ELEMENTS
from snnconvert.models.onnx.ops.indexing import bounds
from snnconvert.models.onnx.table import host_op
from snnconvert.models.onnx.values import HostArray


@host_op("Identity")
def identity(call: Call) -> HostArray:
    """X."""
    return call.host(0)


host_op("Dropout")(identity)


@host_op("Concat")
def concat(call: Call) -> HostArray:
    """Inputs one after the other."""
    arrays = [call.host(position).values for position in range(len(call.values))]
    return call.host(0).with_values(np.concatenate(arrays, axis=call.integer("axis", 0)))


@host_op("Gather")
def gather(call: Call) -> HostArray:
    """X at the indices along the axis."""
    x, indices = call.host(0), np.array(call.host(1).values.tolist(), dtype=np.int64)
    return x.with_values(_array(np.take(x.values, indices, axis=call.integer("axis", 0))))


@host_op("Slice")
def slice_(call: Call) -> HostArray:
    """x[start:end:step] along each axis."""
    x = call.host(0)
    values = x.values
    for axis, start, end, step in bounds(call):
        axis = axis % values.ndim
        stop = None if step < 0 and end < -values.shape[axis] else end
        values = values[(slice(None),) * axis + (slice(start, stop, step),)]
    return x.with_values(values)


@host_op("Unsqueeze")
def unsqueeze(call: Call) -> HostArray:
    """X with dimensions of size one."""
    x, axes = call.host(0), call.numbers("axes", 1) or []
    return x.with_values(np.expand_dims(x.values, tuple(axes)))


@host_op("Squeeze")
def squeeze(call: Call) -> HostArray:
    """X without dimensions of size one."""
    x, axes = call.host(0), call.numbers("axes", 1)
    return x.with_values(_array(np.squeeze(x.values, None if axes is None else tuple(axes))))


@host_op("Reshape")
def reshape(call: Call) -> HostArray | None:
    """X in another shape."""
    if not call.host(1).is_concrete():
        return None
    x = call.host(0)
    return x.with_values(x.values.reshape(call.host(1).items()))


@host_op("Flatten")
def flatten(call: Call) -> HostArray:
    """[1, n] of a vector."""
    x = call.host(0)
    outer = int(np.prod(x.values.shape[: call.integer("axis", 1)], dtype=np.int64))
    return x.with_values(x.values.reshape(outer, -1))


@host_op("Expand")
def expand(call: Call) -> HostArray | None:
    """X broadcast with a shape."""
    x = call.host(0)
    target = tuple(call.host(1).items())
    if not call.host(1).is_concrete() or math.prod(target) * x.values.size > MOST_HOST_ELEMENTS:
        return None
    return x.with_values(np.broadcast_to(x.values, np.broadcast_shapes(x.values.shape, target)))


@host_op("Tile")
def tile(call: Call) -> HostArray | None:
    """X repeated."""
    x = call.host(0)
    if not call.host(1).is_concrete() or math.prod(call.host(1).items()) * x.values.size > MOST_HOST_ELEMENTS:
        return None
    return x.with_values(np.tile(x.values, call.host(1).items()))


@host_op("Transpose")
def transpose(call: Call) -> HostArray:
    """X with its dimensions in another order."""
    x = call.host(0)
    return x.with_values(np.transpose(x.values, call.ints("perm")))


@host_op("Split")
def split(call: Call) -> list[HostArray]:
    """X in parts."""
    x, axis = call.host(0), call.integer("axis", 0)
    sizes = call.numbers("split", 1)
    cuts = np.cumsum(sizes)[:-1] if sizes is not None else call.outputs
    return [x.with_values(part) for part in np.array_split(x.values, cuts, axis=axis)]


@host_op("ScatterND")
def scatter_nd(call: Call) -> HostArray:
    """X with updates at places."""
    x, places = call.host(0), np.array(call.host(1).values.tolist(), dtype=np.int64)
    values = x.values.copy()
    values[tuple(places[..., index] for index in range(places.shape[-1]))] = call.host(2).values
    return x.with_values(values)


def _reduction(function: Callable[[Any, Any], Any]) -> Callable[[Call], HostArray]:
    def run(call: Call) -> HostArray:
        x, axes = call.host(0), call.numbers("axes", 1)
        values, keep = x.values, call.flag("keepdims", True)
        rank = values.ndim
        chosen = sorted((axis % rank for axis in axes), reverse=True) if axes else list(range(rank))[::-1]
        for axis in chosen:
            values = np.apply_along_axis(_folded(function), axis, values)
        if keep:
            values = np.reshape(_array(values), [1 if axis in chosen else x.values.shape[axis] for axis in range(rank)])
        return x.with_values(_array(values))

    return run


def _folded(function: Callable[[Any, Any], Any]) -> Callable[[np.ndarray], Any]:
    def fold(vector: np.ndarray) -> Any:
        return functools.reduce(function, vector.tolist())

    return fold


host_op("ReduceProd")(_reduction(operator.mul))
host_op("ReduceSum")(_reduction(operator.add))
host_op("ReduceMax")(_reduction(lambda a, b: torch.sym_max(a, b)))
host_op("ReduceMin")(_reduction(lambda a, b: torch.sym_min(a, b)))


def _array(value: Any) -> np.ndarray:
    """A NumPy result as an array of objects, also where NumPy gave back the single object."""
    if isinstance(value, np.ndarray):
        return value
    return HostArray.scalar(value).values
