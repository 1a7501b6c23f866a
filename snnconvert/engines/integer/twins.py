"""ONNX twins of a spiking graph's modules: the same integers, written as QuantizeLinear and DequantizeLinear.

A word z with zero point o is stored as the byte k = z + o. ``FireWords`` is the neuron, k = clip(rne(u) + o);
``ReadWords`` gives (k − o)·s. Between the two a runtime finds integer kernels for convolutions and matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.engines.integer.formulas import Formula
from snnconvert.neurons.current import PoolGeometry
from snnconvert.neurons.synapse import ConvGeometry, convolve, outputs_first

OPSET = 18
MIDDLE = 128
_LARGEST_FLOAT = torch.finfo(torch.float32).max


def onnx_node(op: str, inputs: tuple[Tensor, ...], like: Tensor, dtype: torch.dtype, **attributes: Any) -> Tensor:
    """One ONNX node with an output of a tensor's shape; it can be exported, not executed."""
    return onnx_node_of(op, inputs, like.shape, dtype, **attributes)


def onnx_node_of(
    op: str, inputs: tuple[Tensor, ...], shape: Sequence[int | torch.SymInt], dtype: torch.dtype, **attributes: Any
) -> Tensor:
    """One ONNX node with an output of a known shape; it can be exported, not executed."""
    made: Tensor = torch.onnx.ops.symbolic(op, inputs, attributes, dtype=dtype, shape=shape, version=OPSET)
    return made


class Bytes(nn.Module):
    """How words are stored: k = z + zero point, unsigned or signed bytes, the latter as they are where they fit.

    Attributes:
        dtype: uint8 or int8.
        smallest, largest: the words' range.
        is_clipped: whether there are bytes that no word has.
        lowest: the smallest word, where a byte can be smaller.

    Buffers:
        zero_point: uint8 or int8 scalar.
        bottom, top: the bytes of the smallest and the largest word, of the same type.
    """

    zero_point: Tensor
    bottom: Tensor
    top: Tensor

    def __init__(self, offset: int, largest: int, *, signed: bool) -> None:
        """Stores the range.

        Args:
            offset: the code's zero point o, 0..255.
            largest: the largest word fired.
            signed: whether bytes are signed.
        """
        super().__init__()
        fits = signed and offset <= MIDDLE and largest < MIDDLE
        shift = offset if fits else MIDDLE if signed else 0
        self.dtype = torch.int8 if signed else torch.uint8
        self.smallest, self.largest = -offset, largest
        self.is_clipped = largest + offset < 255
        self.lowest = float(-offset) if fits and offset < MIDDLE else None
        self.register_buffer("zero_point", torch.tensor(offset - shift, dtype=self.dtype))
        self.register_buffer("bottom", torch.tensor(-shift, dtype=self.dtype))
        self.register_buffer("top", torch.tensor(min(largest + offset, 255) - shift, dtype=self.dtype))
        self.register_buffer("one", torch.ones(()))


class FireWords(nn.Module):
    """k = clip(rne(u) + o, bottom, top) of values u in steps Δ: a packed neuron whose scaling is done elsewhere.

    Buffers:
        step: float32 scalar Δ, or None where it is 1.
    """

    step: Tensor | None

    def __init__(
        self, stored: Bytes, *, clips_bytes: bool, rounds: bool, clips: bool = True, step: float = 1.0
    ) -> None:
        super().__init__()
        self.stored, self.clips_bytes, self.rounds = stored, clips_bytes, rounds
        self.clips = clips and stored.is_clipped
        self.register_buffer("step", None if step == 1 else torch.tensor(step, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """Bytes of the values' shape."""
        stored, step = self.stored, self.step
        one = stored.get_buffer("one") if step is None else step
        if self.clips and not self.clips_bytes:
            values = values.clamp(stored.lowest, float(stored.largest))
        if self.rounds:
            values = values.round()
        fired = onnx_node("QuantizeLinear", (values, one, stored.zero_point), values, stored.dtype)
        if not self.clips or not self.clips_bytes:
            return fired
        if stored.lowest is not None:
            fired = onnx_node("Max", (fired, stored.bottom), fired, stored.dtype)
        return onnx_node("Min", (fired, stored.top), fired, stored.dtype)


class WholeWords(nn.Module):
    """z = clip(rne(u), −o, largest) of values u in steps Δ, as float32: words that no memory holds."""

    def __init__(self, stored: Bytes) -> None:
        super().__init__()
        self.smallest, self.largest = stored.smallest, stored.largest

    def forward(self, values: Tensor) -> Tensor:
        """float32 of the values' shape."""
        return values.round().clamp(float(self.smallest), float(self.largest))


class ReadWords(nn.Module):
    """(k − o)·s of bytes k: words as the float numbers that integer kernels are recognized by.

    Buffers:
        scale: float32 scalar s.
    """

    scale: Tensor

    def __init__(self, stored: Bytes, scale: Tensor) -> None:
        super().__init__()
        self.stored = stored
        self.register_buffer("scale", scale.to(torch.float32).reshape(()))

    def forward(self, fired: Tensor) -> Tensor:
        """float32 of the bytes' shape."""
        return onnx_node("DequantizeLinear", (fired, self.scale, self.stored.zero_point), fired, torch.float32)


class ReadCarried(nn.Module):
    """k − o of bytes k that neurons with zero points o of their own fired, side by side along a dimension.

    Buffers:
        scale: float32 ones, of the zero points' shape.
        zero_point: of the bytes' type, scalar, or as long as the dimension where neurons' differ.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, stored: Sequence[Bytes], sizes: Sequence[int], dim: int) -> None:
        """Stores the zero points.

        Args:
            stored: how each neuron's words are stored, all of one type.
            sizes: how many words each has along the dimension; of several neurons only.
            dim: the dimension, not negative.
        """
        super().__init__()
        self.dim = dim
        points = torch.stack([each.zero_point for each in stored])
        alike = bool((points == points[0]).all())
        self.register_buffer("zero_point", points[0] if alike else points.repeat_interleave(torch.tensor(sizes)))
        self.register_buffer("scale", torch.ones(self.zero_point.shape))

    def forward(self, fired: Tensor) -> Tensor:
        """float32 of the bytes' shape."""
        along = {"axis": self.dim} if self.zero_point.dim() else {}
        return onnx_node("DequantizeLinear", (fired, self.scale, self.zero_point), fired, torch.float32, **along)


class IntegerSynapse(nn.Module):
    """(W·z + b)·s with int8 weights W, int32 biases b and one float scale s for each output channel.

    Buffers:
        weight: int8, in the operator's own layout.
        bias: int32 [O].
        scale: float32, of the weight's second axis if it is transposed, else [O].
        bias_scale: float32 [O].
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor
    bias_scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        geometry: ConvGeometry | None,
        *,
        flat: bool,
        folded: bool = False,
    ) -> None:
        """Stores the integers.

        Args:
            weight: int8 [O, I/groups, ...] or [O, I].
            bias: int32 [O].
            scale: float32 [O] or scalar.
            geometry: of a convolution; None for a linear layer.
            flat: whether a linear layer sees a matrix, with its bias inside the kernel.
            folded: whether a convolution sees W·s and b·s as constants in floating point.

        Raises:
            ValueError: if groups of a transposed convolution have scales of their own.
        """
        super().__init__()
        self.geometry, self.flat, self.folded = geometry, flat, folded
        transposed = geometry is not None and geometry.transposed
        channels_last = geometry is None and not flat
        if geometry is not None and transposed:
            stored = outputs_first(weight, geometry.groups)
        else:
            stored = weight.T if channels_last else weight
        self.channel_axis = int(transposed or channels_last)
        scale = scale.to(torch.float32).flatten().expand(len(bias)).contiguous()
        shared = scale if geometry is None or not transposed else _shared_by_groups(scale, geometry.groups)
        self.register_buffer("weight", stored.contiguous())
        self.register_buffer("bias", bias.to(torch.int32))
        self.register_buffer("scale", shared)
        self.register_buffer("bias_scale", scale)
        self.register_buffer("no_offset", torch.zeros(len(shared), dtype=torch.int8))
        self.register_buffer("no_bias_offset", torch.zeros(len(bias), dtype=torch.int32))
        self.register_buffer("float_bias", bias.double().mul(scale.double()).to(torch.float32))

    def forward(self, words: Tensor) -> Tensor:
        """Currents [N, O, ...] ([..., O] if linear) of words as :class:`ReadWords` gives them, float32."""
        if self.folded and self.geometry is not None:
            along = [1, -1] if self.channel_axis else [-1]
            scale = self.scale.view(*along, *[1] * (self.weight.dim() - len(along)))
            return convolve(words, self.weight.to(torch.float32) * scale, self.get_buffer("float_bias"), self.geometry)
        weight = onnx_node(
            "DequantizeLinear", (self.weight, self.scale, self.get_buffer("no_offset")), self.weight,
            torch.float32, axis=self.channel_axis,
        )  # fmt: skip
        if self.geometry is None and not self.flat:
            return torch.matmul(words, weight) + self.get_buffer("float_bias")
        bias = onnx_node(
            "DequantizeLinear", (self.bias, self.bias_scale, self.get_buffer("no_bias_offset")), self.bias,
            torch.float32, axis=0,
        )  # fmt: skip
        if self.geometry is None:
            rows = words if words.dim() == 2 else words.flatten(0, -2)
            current = F.linear(rows, weight, bias)
            return current if words.dim() == 2 else current.reshape(*words.shape[:-1], -1)
        return self.convolved(words, weight, bias)

    def convolved(self, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A convolution of words with weights and biases as float numbers."""
        assert self.geometry is not None
        return convolve(words, weight, bias, self.geometry)


def _shared_by_groups(scale: Tensor, groups: int) -> Tensor:
    """Scales of a grouped transposed convolution's second weight axis [O/groups].

    Raises:
        ValueError: if groups have scales of their own.
    """
    split = scale.view(groups, -1)
    if not bool((split == split[0]).all()):
        raise ValueError("groups have scales of their own")
    return split[0]


class WordTable(nn.Module):
    """k = table[clip(rne(p), first, first + K − 1) − first]: neurons that fire on a function of their potential.

    Flat tables that hold position 0 start with it, and positions below it follow those above, where negative indices
    find them: nothing is subtracted.

    Buffers:
        table: bytes [K].
        low, high: float32, the first and the last position.
    """

    table: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, table: Tensor, first: int, stored: Bytes, *, flat: bool) -> None:
        super().__init__()
        last = first + len(table) - 1
        self.flat, self.origin = flat, 0 if flat and first <= 0 <= last else first
        entries = (table.to(torch.int64) + int(stored.zero_point)).to(stored.dtype)
        self.register_buffer("table", entries.roll(first - self.origin))
        self.register_buffer("low", torch.tensor(float(first)))
        self.register_buffer("high", torch.tensor(float(last)))

    def forward(self, positions: Tensor) -> Tensor:
        """Bytes of the shape of float grid positions p."""
        rounded = positions.round()  # first: OpenVINO moves a clip in front of a product whose words it truncates
        index = onnx_node("Clip", (rounded, self.low, self.high), rounded, torch.float32)
        if self.origin:
            index = index - self.origin
        return looked_up(self.table, index.to(torch.int32), flat=self.flat)


class FormulaWords(nn.Module):
    """Fires b·f(a·rne(p)) of grid positions p: a table of words that a runtime's own f gives, too."""

    def __init__(self, formula: Formula, fire: FireWords) -> None:
        super().__init__()
        self.formula, self.fire = formula, fire

    def forward(self, positions: Tensor) -> Tensor:
        """Bytes of the shape of float grid positions p."""
        fired: Tensor = self.fire(self.formula(positions.round()))
        return fired


def looked_up(table: Tensor, index: Tensor, *, flat: bool) -> Tensor:
    """table[index] of the index's shape, read by vectors of indices if ``flat``."""
    if not flat:
        return onnx_node("Gather", (table, index), index, table.dtype, axis=0)
    rows = index.reshape(-1)
    return onnx_node("GatherElements", (table, rows), rows, table.dtype, axis=0).reshape(index.shape)


class Scaled(nn.Module):
    """(x + β)·g, each rounded once; without β where it is None.

    Buffers:
        gain: float32, g.
        bias: float32 or None, β.
    """

    gain: Tensor
    bias: Tensor | None

    def __init__(self, gain: Tensor, bias: Tensor | None = None, *, apart: bool = False) -> None:
        """Stores the numbers.

        Args:
            gain: g, scalar or broadcastable to the input.
            bias: β, too.
            apart: whether a clip that clips nothing keeps sum and product apart, for runtimes (OpenVINO 2026.4) that
                would calculate x·g + β·g.
        """
        super().__init__()
        self.apart = apart
        self.register_buffer("gain", gain.to(torch.float32))
        self.register_buffer("bias", None if bias is None else bias.to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """float32 of x's shape."""
        if self.bias is None:
            return x * self.gain
        total = x + self.bias
        return (total.clamp(-_LARGEST_FLOAT, _LARGEST_FLOAT) if self.apart else total) * self.gain


class Rectified(nn.Module):
    """u for u ≥ 0, s·u below.

    Buffers:
        slope: float32, s, scalar or broadcastable to the input.
    """

    slope: Tensor

    def __init__(self, slope: Tensor, *, apart: bool) -> None:
        """Stores the slope.

        Args:
            slope: s.
            apart: whether a clip that clips nothing keeps it apart from a gain in front, for runtimes (OpenVINO 2026.4)
                that would move the gain behind it.
        """
        super().__init__()
        self.apart, self.shared = apart, float(slope) if slope.numel() == 1 else None
        self.register_buffer("slope", slope.to(torch.float32))

    def forward(self, steps: Tensor) -> Tensor:
        """float32 of the input's shape."""
        if self.apart:
            steps = steps.clamp(-_LARGEST_FLOAT, _LARGEST_FLOAT)
        if self.shared is not None:
            return onnx_node("LeakyRelu", (steps,), steps, torch.float32, alpha=self.shared)
        return onnx_node("PRelu", (steps, self.slope), steps, torch.float32)


class Whole(nn.Module):
    """Integers as they are, through a rounding that runtimes move no scale across."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 of x's shape."""
        return x.round()


class WindowSum(nn.Module):
    """s·Σ z over windows of words or currents [N, C, ...]: integer sums, scaled once.

    Sums over dimension 1 of three get a fourth of one value to sum over if they are lifted: of bytes OpenVINO (2026.4)
    rounds or clips the first sample's alone, and the others are wrong.

    Buffers:
        scale: float32 scalar or [C].
    """

    scale: Tensor

    def __init__(self, geometry: PoolGeometry, scale: Tensor, channels: int, *, lifted: bool) -> None:
        super().__init__()
        self.geometry, self.lifted = geometry, lifted
        self.register_buffer("scale", scale.to(torch.float32))
        if not geometry.dims:
            kernel = torch.ones(channels, 1, *geometry.kernel, dtype=torch.int8)
            scales = scale.to(torch.float32).flatten().expand(channels).contiguous()
            flat = ConvGeometry(geometry.stride, geometry.padding, (1,) * len(geometry.kernel), channels)
            no_bias = torch.zeros(channels, dtype=torch.int32)
            self.windows: nn.Module = IntegerSynapse(kernel, no_bias, scales, flat, flat=False)

    def forward(self, counts: Tensor) -> Tensor:
        """float32 sums."""
        if not self.geometry.dims:
            windows: Tensor = self.windows(counts)
            return windows
        dims, kept = self.geometry.dims, self.geometry.keepdim
        if not self.lifted or counts.dim() != 3 or 1 not in dims:
            return counts.sum(dims, keepdim=kept) * self.scale
        planes = counts.unsqueeze(2).sum((1, 2, 3) if 2 in dims else (1, 2), keepdim=kept)
        return (planes.squeeze(2) if kept else planes) * self.scale


class BilinearForm(nn.Module):
    """(a ∘ b)·s of words a and b.

    Buffers:
        scale: float32, scalar or broadcastable to the output.
    """

    scale: Tensor

    def __init__(self, product: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.product = product
        self.is_scaled = not bool((scale == 1).all())
        self.register_buffer("scale", scale.to(torch.float32))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """float32 products."""
        current: Tensor = self.product.bilinear(left, right)  # type: ignore[operator]
        return current * self.scale if self.is_scaled else current
