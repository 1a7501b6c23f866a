"""Which operators a saved graph may name: functional ATen compute, plain arithmetic, and this package's own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from snnconvert.convert.elementwise import elementwise
from snnconvert.convert.ops import channel_affine, rectified_linear
from snnconvert.errors import ArtifactError

_ARITHMETIC = "getitem add sub mul floordiv truediv mod neg eq ne lt le gt ge"
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "snnconvert.rectified_linear": rectified_linear,
    "snnconvert.channel_affine": channel_affine,
    "snnconvert.elementwise": elementwise,
    **{f"operator.{name}": getattr(operator, name) for name in _ARITHMETIC.split()},
}
_NAMES = {function: name for name, function in _FUNCTIONS.items()}

# Neither core nor pointwise by torch's own tags, but plain tensor functions that exported networks keep.
_COMPOSITES = frozenset(
    {
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
        "adaptive_max_pool2d", "all", "any", "arange", "batch_norm", "bilinear", "channel_shuffle", "chunk", "col2im",
        "contiguous", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "cumsum", "dropout", "einsum", "expand_as", "flatten", "group_norm", "hardsigmoid", "hardswish", "im2col",
        "instance_norm", "layer_norm", "linalg_vector_norm", "linear", "log_softmax", "matmul", "max", "max_pool1d",
        "max_pool2d", "max_pool3d", "meshgrid", "min", "movedim", "narrow", "one_hot", "ones", "outer", "pad",
        "pixel_shuffle", "pixel_unshuffle", "prelu", "repeat_interleave", "reshape", "reshape_as", "rms_norm",
        "roll", "rsub", "scaled_dot_product_attention", "softmax", "split", "split_with_sizes", "square", "squeeze",
        "stack", "std", "std_mean", "sum", "sym_size", "t", "tile", "to", "transpose", "type_as", "unbind",
        "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "upsample_bicubic2d", "upsample_bilinear2d",
        "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_trilinear3d", "var", "var_mean",
        "view_as", "zeros", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "lstm",
        "gru", "rnn_tanh", "rnn_relu", "fft_rfft", "fft_irfft", "fft_rfft2", "fft_irfft2", "fft_fft2", "fft_ifft2",
        "fft_fft", "fft_ifft", "fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_hfft", "fft_ihfft",
        "view_as_real", "view_as_complex", "real", "_conj", "embedding_bag", "triu", "tril",
        "linspace", "cdist",
        "__and__", "__or__", "__xor__", "where", "logsumexp", "log_sigmoid", "max_unpool1d", "max_unpool2d",
        "max_unpool3d", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa", "upsample_nearest3d", "baddbmm", "addbmm", "kron", "trace", "diagonal",
        "diag_embed", "count_nonzero", "cumprod", "logcumsumexp", "argsort", "bucketize", "searchsorted",
    }
)  # fmt: skip


def operator_name(function: Any, where: str) -> str:
    """The name a graph's function is saved under.

    Raises:
        ArtifactError: if :func:`operator_of` wouldn't accept it back, naming the layer.
    """
    if isinstance(function, torch._ops.OpOverload) and _is_allowed(function):
        return f"{function.namespace}.{function.__name__}"
    name = _NAMES.get(function)
    if name is None:
        raise ArtifactError(f"{where}: operator {function} can't be saved")
    return name


def operator_of(name: object) -> Callable[..., Any]:
    """The function of a saved name.

    Raises:
        ArtifactError: if the operator isn't on the allow-list.
    """
    if isinstance(name, str) and name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, packet_name, overload = (*str(name).split("."), "", "")[:3]
    packet = getattr(torch.ops.aten, packet_name, None) if namespace == "aten" and packet_name.isidentifier() else None
    found = getattr(packet, overload, None) if packet is not None and overload.isidentifier() else None
    if not isinstance(found, torch._ops.OpOverload) or not _is_allowed(found):
        raise ArtifactError(f"graph.json: operator {name!r} is not allowed")
    return found


def _is_allowed(overload: torch._ops.OpOverload[..., Any]) -> bool:
    computes = torch.Tag.core in overload.tags or torch.Tag.pointwise in overload.tags
    deterministic = torch.Tag.nondeterministic_seeded not in overload.tags
    known = (computes and deterministic) or overload.overloadpacket.__name__ in _COMPOSITES
    return overload.namespace == "aten" and known and not overload._schema.is_mutable
