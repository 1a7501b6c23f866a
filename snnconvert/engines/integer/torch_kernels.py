"""oneDNN's 8-bit kernels in torch: bytes times int8 weights, summed up in 32 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.neurons.synapse import ConvGeometry

_SUM = ("qaccum", "accum_scale", "accum_zero_point", "binary_attr", "alpha", "unary_attr")
_NEEDED: dict[str, tuple[str, ...]] = {
    "qconv_prepack.default": ("weight", "w_scales", "x_scale", "x_zp", "stride", "padding", "dilation", "groups",
                              "x_shape"),
    "qconv2d_pointwise.default": ("qx", "x_zero_point", "qw", "w_scale", "bias", "output_zero_point", "output_dtype",
                                  "attr", "scalars"),
    "qconv2d_pointwise.binary": ("qx", "x_zero_point", "qw", "w_scale", "bias", "output_zero_point", "output_dtype",
                                 *_SUM),
    "qlinear_prepack.default": ("weight", "x_shape"),
    "qlinear_pointwise.default": ("qx", "x_zero_point", "qw", "w_scale", "bias", "output_zero_point", "output_dtype",
                                  "post_op_name", "post_op_args"),
}  # fmt: skip
_NO_OP: tuple[str, list[float], str] = ("none", [], "")
_LINEAR = ConvGeometry((), (), (), 1)


@dataclass(frozen=True)
class Requantization:
    """How an accumulator becomes a byte: clip(rne(u) + zero point, 0, 255), u clipped first if a range is given.

    Attributes:
        zero_point: of the bytes written.
        clip: smallest and largest u, or None.
    """

    zero_point: int
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class PackedWeights:
    """Weights in oneDNN's own order.

    Attributes:
        data: the opaque tensor.
        scale: float32 [O].
        offsets: zeros [O], the zero points of weights.
        bias: float32 [O], in units of the result, or None.
        zero_point: of the bytes they multiply.
        geometry: of a convolution, or None.
    """

    data: Tensor
    scale: Tensor
    offsets: Tensor
    bias: Tensor | None
    zero_point: int
    geometry: ConvGeometry | None


def missing_kernels() -> str:
    """Why oneDNN's kernels can't be used here; empty if they can.

    They may be missing from this build of torch, have other arguments in this version, or saturate on CPUs without
    instructions that add products of bytes up in 32 bits.
    """
    for name, needed in _NEEDED.items():
        kernel, overload = name.split(".")
        try:
            schema = getattr(getattr(torch.ops.onednn, kernel), overload)._schema
        except (AttributeError, RuntimeError):
            return f"torch {torch.__version__} has no onednn.{kernel}"
        if not set(needed) <= {argument.name for argument in schema.arguments}:
            return f"torch {torch.__version__} has an onednn.{kernel} with other arguments"
    try:
        exact = _adds_up()
    except (RuntimeError, TypeError):
        return f"torch {torch.__version__} refuses onednn.qconv2d_pointwise here"
    return "" if exact else "this CPU's 8-bit products saturate"


def pack(
    weight: Tensor, scale: Tensor, bias: Tensor | None, zero_point: int, geometry: ConvGeometry | None,
    input_shape: tuple[int, ...],
) -> PackedWeights:  # fmt: skip
    """Orders weights for inputs like one of a given shape.

    Args:
        weight: int8 [O, I/groups, H, W] or [O, I].
        scale: float32 [O].
        bias: float32 [O] or None.
        zero_point: of the bytes.
        geometry: of a convolution over two dimensions; None for a linear layer.
        input_shape: of the bytes.
    """
    scale, shape = scale.contiguous(), list(input_shape)
    if geometry is None:
        rows = [torch.Size(shape[:-1]).numel(), shape[-1]]
        data = torch.ops.onednn.qlinear_prepack(weight.contiguous(), rows)
    else:
        g = geometry
        data = torch.ops.onednn.qconv_prepack(
            weight.contiguous(), scale, 1.0, zero_point, g.stride, g.padding, g.dilation, g.groups, shape
        )
    return PackedWeights(data, scale, torch.zeros(len(scale), dtype=torch.int8), bias, zero_point, geometry)


def multiply(words: Tensor, weights: PackedWeights, to: Requantization | None) -> Tensor:
    """s·W(k − o) + β, requantized to bytes, or float32.

    Args:
        words: bytes k.
        weights: with scale s and bias β.
        to: how to write bytes; None: return the numbers.
    """
    post = _NO_OP if to is None or to.clip is None else ("hardtanh", list(to.clip), "")
    out = _output(to)
    common = (words, 1.0, weights.zero_point, weights.data, weights.scale, weights.offsets, weights.bias)
    g = weights.geometry
    if g is None:
        if words.numel() == 0:  # the kernel loses dimensions of empty batches
            return torch.empty((*words.shape[:-1], len(weights.scale)), dtype=out[-1])
        linear: Tensor = torch.ops.onednn.qlinear_pointwise(*common, *out, *post)
        return linear
    places = (g.stride, g.padding, g.dilation, g.groups)
    convolved: Tensor = torch.ops.onednn.qconv2d_pointwise(*common, *places, *out, *post)
    return convolved


def multiply_onto(total: Tensor, words: Tensor, weights: PackedWeights, to: Requantization | None,
                  scale: float = 1.0, zero_point: int = 0) -> Tensor:  # fmt: skip
    """s·W(k − o) + β + a·(t − p) of a convolution; what is given for t is overwritten.

    Args:
        total: t, bytes if bytes are written, else float32, channels last.
        words: bytes k.
        weights: of a convolution.
        to: how to write bytes; None: return the numbers.
        scale: a; 1 for float32.
        zero_point: p; 0 for float32.
    """
    g = weights.geometry or _LINEAR
    summed: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
        words, 1.0, weights.zero_point, weights.data, weights.scale, weights.offsets, total, weights.bias,
        g.stride, g.padding, g.dilation, g.groups, *_output(to), scale, zero_point, "sum", 1.0, *_NO_OP,
    )  # fmt: skip
    return summed


def _output(to: Requantization | None) -> tuple[Any, ...]:
    """Scale, zero point and type of the result."""
    return (1.0, 0, torch.float32) if to is None else (1.0, to.zero_point, torch.uint8)


def _adds_up() -> bool:
    """Whether largest bytes times largest weights give what float64 does, as a convolution and as a linear layer."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(254, 256, (2, 64, 6, 6), generator=generator, dtype=torch.uint8)
    weight = torch.randint(126, 128, (32, 64, 1, 1), generator=generator, dtype=torch.int8)
    weight[::2] *= -1
    expected = F.conv2d(words.double() - 2, weight.double())
    once, geometry = torch.ones(32), ConvGeometry((1, 1), (0, 0), (1, 1), 1)
    convolved = multiply(words.contiguous(memory_format=torch.channels_last),
                         pack(weight, once, None, 2, geometry, tuple(words.shape)), None)  # fmt: skip
    rows = words.permute(0, 2, 3, 1).contiguous()
    linear = multiply(rows, pack(weight.flatten(1), once, None, 2, None, tuple(rows.shape)), None)
    return torch.equal(convolved.double(), expected) and torch.equal(linear.double().permute(0, 3, 1, 2), expected)
