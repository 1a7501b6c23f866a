"""Operators that pick values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op
from snnconvert.models.onnx.values import HostArray


def bounds(call: Call) -> list[tuple[int, Any, Any, int]]:
    """(axis, start, end, step) of a Slice, from attributes or inputs."""
    starts, ends = call.numbers("starts", 1), call.numbers("ends", 2)
    if starts is None or ends is None:
        raise call.node.malformed("starts or ends are missing")
    axes = call.numbers("axes", 3) or list(range(len(starts)))
    steps = call.numbers("steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise call.node.malformed("starts, ends, axes and steps are of different lengths, or a step is 0")
    return list(zip(axes, starts, ends, steps, strict=True))


@onnx_op("Slice", numbers=(1, 2, 3, 4))
def slice_(call: Call) -> Tensor:
    """x[start:end:step] along each axis."""
    x = call.tensor(0)
    for axis, start, end, step in bounds(call):
        axis = call.dimension(axis, x.dim())
        if step < 0:
            x = _sliced_backwards(x, axis, start, end, step)
        else:
            x = x[(slice(None),) * axis + (slice(start, end, step),)]
    return x


def _sliced_backwards(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """x[start:end:step] for a negative step: the reversed x, sliced forwards."""
    size = x.shape[axis]
    start = min(start if start >= 0 else start + size, size - 1)
    end = max(end if end >= 0 else end + size, -1)
    head = (slice(None),) * axis
    place = (*head, slice(size - 1 - start, max(size - 1 - end, 0), -step))
    return x.flip(axis)[place]


def _indices(call: Call, position: int) -> Tensor:
    return call.tensor(position).to(torch.int64)


@onnx_op("Gather", weights={0: "weight"})
def gather(call: Call) -> Tensor:
    """x[..., indices, ...] along the axis; of each sample's values where x is all of them in a row."""
    x = call.tensor(0)
    axis = call.axis(0, x.dim())
    given = call.raw(1)
    if call.batch is not None:
        rows = x.reshape(-1, call.batch.multiplier)
        indices = _indices(call, 1)
        return rows.index_select(1, indices.reshape(-1)).reshape(rows.shape[0], *indices.shape[1:])
    host = given if isinstance(given, HostArray) else call.hosts[1]
    if isinstance(host, HostArray) and host.values.ndim == 0:
        return x.select(axis, host.item())
    indices = _indices(call, 1)
    if host is None or _some_are_negative(call, host.items(), x.shape[axis]):
        indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if host is None and axis == 0 and x.dim() == 2:
        return torch.nn.functional.embedding(indices, x)
    picked = x.index_select(axis, indices.reshape(-1))
    return picked if indices.dim() == 1 else picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _some_are_negative(call: Call, indices: list[Any], size: Any) -> bool:
    """Whether indices count from the end.

    Raises:
        InputError: if one lies outside.
    """
    plain = [index for index in indices if isinstance(index, int)]
    if isinstance(size, int) and plain and not -size <= min(plain) <= max(plain) < size:
        raise call.node.malformed(f"an index lies outside of {size} values")
    return len(plain) < len(indices) or any(index < 0 for index in plain)


@onnx_op("GatherElements")
def gather_elements(call: Call) -> Tensor:
    """y[i, j, ...] = x[indices[i, j, ...], j, ...] along the axis."""
    x = call.tensor(0)
    axis = call.axis(0, x.dim())
    indices = _indices(call, 1)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


@onnx_op("GatherND")
def gather_nd(call: Call) -> Tensor:
    """X at the places whose coordinates the last dimension of the indices gives."""
    x, indices, batch = call.tensor(0), _indices(call, 1), call.integer("batch_dims", 0)
    depth = indices.shape[-1]
    prefix = []
    for dim in range(batch):
        shape = [-1 if d == dim else 1 for d in range(indices.dim() - 1)]
        prefix.append(torch.arange(x.shape[dim], device=x.device).reshape(shape))
    place = (*prefix, *(indices[..., position] for position in range(depth)))
    return x[place]


@onnx_op("ScatterElements")
def scatter_elements(call: Call) -> Tensor:
    """X with updates at the indices along the axis."""
    x = call.tensor(0)
    axis = call.axis(0, x.dim())
    indices, updates = _indices(call, 1), call.tensor(2)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    reduction = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(
        call.text("reduction", "none"), ""
    )
    if reduction is None:
        return x.scatter(axis, indices, updates)
    if not reduction:
        raise call.node.malformed("its reduction is unknown")
    return x.scatter_reduce(axis, indices, updates, reduction)


onnx_op("Scatter")(scatter_elements)


@onnx_op("ScatterND")
def scatter_nd(call: Call) -> Tensor:
    """X with updates at the places whose coordinates the last dimension of the indices gives."""
    x, indices, updates = call.tensor(0), _indices(call, 1), call.tensor(2)
    if call.text("reduction", "none") not in ("none", "add"):
        raise call.node.unsupported("only the reductions none and add are supported")
    places = tuple(indices[..., position] for position in range(indices.shape[-1]))
    return x.index_put(places, updates, accumulate=call.text("reduction", "none") == "add")


@onnx_op("OneHot", numbers=(1,))
def one_hot(call: Call) -> Tensor:
    """values[1] where the index is met along a new axis, values[0] elsewhere."""
    indices, depth, values = _indices(call, 0), int(call.number(1)), call.tensor(2)
    indices = torch.where(indices < 0, indices + depth, indices)
    axis = call.axis(-1, indices.dim() + 1)
    shape = [depth if dim == axis else 1 for dim in range(indices.dim() + 1)]
    hit = indices.unsqueeze(axis) == torch.arange(depth, device=indices.device).reshape(shape)
    return torch.where(hit, values[1], values[0])


@onnx_op("TopK", numbers=(1,))
def top_k(call: Call) -> list[Tensor]:
    """The k largest (or smallest) values along the axis and their places."""
    x = call.tensor(0)
    axis = call.axis(-1, x.dim())
    k = call.integer("k", 1) if call.opset < 10 else call.number(1)
    values, indices = torch.sort(x, dim=axis, descending=call.flag("largest", True), stable=True)
    place = (*(slice(None),) * axis, slice(0, k))
    return [values[place], indices[place]]
