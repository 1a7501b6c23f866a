"""Operators that move values and change none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op
from snnconvert.models.onnx.values import HostArray, Quantized, Value


def _moved(call: Call, function: Any) -> Value:
    """f(x) for an f that moves values; a quantized value stays on its grid."""
    value = call.raw(0)
    if isinstance(value, Quantized) and value.grid.scale.dim() == 0:
        return Quantized(function(value.real), value.grid)
    result: Tensor = function(call.tensor(0))
    return result


@onnx_op("Identity")
def identity(call: Call) -> Value:
    """X."""
    return call.raw(0)


@onnx_op("Dropout", numbers=(1, 2))
def dropout(call: Call) -> list[Value]:
    """x, as always in inference; the mask is all ones."""
    if call.has(2) and ((not isinstance(call.raw(2), HostArray) and call.hosts[2] is None) or call.number(2)):
        raise call.node.unsupported("it is in training mode: export the network in evaluation mode")
    value = call.raw(0)
    return [value] if call.outputs == 1 else [value, torch.ones_like(call.tensor(0), dtype=torch.bool)]


@onnx_op("Transpose")
def transpose(call: Call) -> Value:
    """X with its dimensions in another order; the reverse by default."""
    order = call.ints("perm")

    def permuted(x: Tensor) -> Tensor:
        return x.permute(order if order is not None else list(range(x.dim()))[::-1])

    return _moved(call, permuted)


@onnx_op("Flatten")
def flatten(call: Call) -> Value:
    """[d0·...·d(axis−1), the rest]."""
    axis = call.integer("axis", 1)

    def flat(x: Tensor) -> Tensor:
        start = axis if axis == x.dim() else call.dimension(axis, x.dim())
        if start == 1:
            return x.flatten(1) if x.dim() > 1 else x.reshape(-1, 1)
        outer: Any = 1
        for size in x.shape[:start]:
            outer = outer * size
        inner: Any = 1
        for size in x.shape[start:]:
            inner = inner * size
        return x.reshape(outer, inner)

    return _moved(call, flat)


@onnx_op("Reshape", numbers=(1,))
def reshape(call: Call) -> Value:
    """X in another shape; 0 keeps a size, −1 is what is left."""
    target = call.host(1).items()

    def reshaped(x: Tensor) -> Tensor:
        if call.batch is not None and call.batch.moved:
            others = [size for index, size in enumerate(target) if index != call.batch.entry]
            rows = x.movedim(call.batch.axis, 0)
            return rows.reshape(rows.shape[0], *others).movedim(0, call.batch.entry)
        wanted = call.batch.applied(target, x) if call.batch is not None else target
        if not call.flag("allowzero"):
            wanted = [x.shape[i] if isinstance(size, int) and size == 0 else size for i, size in enumerate(wanted)]
        return x.reshape(wanted)

    return _moved(call, reshaped)


@onnx_op("Squeeze", numbers=(1,))
def squeeze(call: Call) -> Value:
    """X without dimensions of size one: the given ones, or all."""
    axes = call.numbers("axes", 1)

    def squeezed(x: Tensor) -> Tensor:
        if axes is None:
            return x.squeeze()
        bad = [axis for axis in axes if x.shape[axis] != 1]
        if bad:
            raise call.node.malformed(f"it removes dimension {bad[0]} of {list(x.shape)}, which is not of size one")
        return x.squeeze(tuple(axes))

    return _moved(call, squeezed)


@onnx_op("Unsqueeze", numbers=(1,))
def unsqueeze(call: Call) -> Value:
    """X with dimensions of size one at the given places of the result."""
    axes = call.numbers("axes", 1) or []

    def unsqueezed(x: Tensor) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(call.dimension(axis, rank) for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return _moved(call, unsqueezed)


@onnx_op("Expand", numbers=(1,))
def expand(call: Call) -> Tensor:
    """X broadcast with a shape, in both directions."""
    x, target = call.tensor(0), call.host(1).items()
    target = call.batch.applied(target, x) if call.batch is not None else target
    sizes: list[Any] = [1] * (x.dim() - len(target)) + target
    offset = len(sizes) - x.dim()
    wanted = [
        x.shape[index - offset] if index >= offset and (isinstance(size, int) and size == 1) else size
        for index, size in enumerate(sizes)
    ]
    return x.expand(wanted)


@onnx_op("Tile", numbers=(1,))
def tile(call: Call) -> Tensor:
    """X repeated along each dimension."""
    return call.tensor(0).repeat(call.host(1).items())


@onnx_op("Concat")
def concat(call: Call) -> Tensor:
    """Inputs one after the other along the axis; constants follow the batch."""
    tensors = call.tensors()
    axis = call.axis(1, tensors[0].dim())
    if call.batch is not None and axis != call.batch.axis:
        tensors = _following_the_batch(tensors, call.batch.axis)
    return torch.cat(tensors, axis)


def _following_the_batch(tensors: list[Tensor], axis: int) -> list[Tensor]:
    sizes = [x.shape[axis] for x in tensors]
    carriers = [size for size in sizes if not (isinstance(size, int) and size == 1)]
    if not carriers:
        return tensors
    return [
        x.expand([carriers[0] if dim == axis else size for dim, size in enumerate(x.shape)])
        if isinstance(size := x.shape[axis], int) and size == 1
        else x
        for x in tensors
    ]


@onnx_op("Split", numbers=(1,))
def split(call: Call) -> list[Tensor]:
    """X in parts along the axis: of the given sizes, or as equal as possible."""
    x = call.tensor(0)
    axis = call.axis(0, x.dim())
    sizes = call.numbers("split", 1)
    if sizes is None:
        count = call.outputs
        part = -(-x.shape[axis] // count)
        sizes = [part] * (count - 1)
        sizes.append(x.shape[axis] - part * (count - 1))
    return list(torch.split(x, sizes, axis))


@onnx_op("DepthToSpace")
def depth_to_space(call: Call) -> Tensor:
    """[N, C·b², H, W] to [N, C, H·b, W·b], blocks before channels (DCR) or behind (CRD)."""
    x, block = call.tensor(0), call.integer("blocksize", 1)
    if call.text("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


@onnx_op("SpaceToDepth")
def space_to_depth(call: Call) -> Tensor:
    """[N, C, H·b, W·b] to [N, b²·C, H, W], blocks before channels."""
    x, block = call.tensor(0), call.integer("blocksize", 1)
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if call.text("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return parts.permute(order).reshape(n, c * block**2, h // block, w // block)


@onnx_op("Trilu", numbers=(1,))
def trilu(call: Call) -> Tensor:
    """The upper or lower triangle of the last two dimensions."""
    x, diagonal = call.tensor(0), int(call.number(1)) if call.has(1) else 0
    return x.triu(diagonal) if call.flag("upper", True) else x.tril(diagonal)


@onnx_op("ReverseSequence", numbers=(1,))
def reverse_sequence(call: Call) -> Tensor:
    """The first n values of each sample in reverse order."""
    x = call.tensor(0)
    time, batch = call.integer("time_axis", 0), call.integer("batch_axis", 1)
    given = call.raw(1)
    if not isinstance(given, HostArray) and call.hosts[1] is None:
        return _reversed_by(x, call.tensor(1), time, batch)
    lengths, parts = call.host(1).items(), []
    if len(set(lengths)) == 1:
        head, tail = x.narrow(time, 0, lengths[0]), x.narrow(time, lengths[0], x.shape[time] - lengths[0])
        return torch.cat([head.flip(time), tail], time)
    for index, length in enumerate(lengths):
        sample = x.narrow(batch, index, 1)
        head, tail = sample.narrow(time, 0, length), sample.narrow(time, length, x.shape[time] - length)
        parts.append(torch.cat([head.flip(time), tail], time))
    return torch.cat(parts, batch)


def _reversed_by(x: Tensor, lengths: Tensor, time: int, batch: int) -> Tensor:
    """x[n − 1 − t] before the length n, x[t] behind it, for lengths that follow the batch."""
    shaped = lengths.to(torch.int64).reshape([-1 if dim == batch else 1 for dim in range(x.dim())])
    steps = torch.arange(x.shape[time], device=x.device).reshape([-1 if dim == time else 1 for dim in range(x.dim())])
    return x.gather(time, torch.where(steps < shaped, shaped - 1 - steps, steps).expand(x.shape))
