"""Attention and its surroundings in onnxruntime's own forms."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import MICROSOFT, onnx_op

_MASKED = -10000.0


def _prepare(_node: OnnxNode, position: int, tensor: Tensor) -> Tensor:
    return tensor.t().contiguous() if position == 1 else tensor


@onnx_op("Attention", domain=MICROSOFT, weights={1: "weight", 2: "bias"}, prepare=_prepare)
def packed_attention(call: Call) -> Tensor:
    """softmax(q·kᵀ/√d + mask)·v for each head, with [q, k, v] = x·W + b."""
    if call.has(4) or call.has(6) or call.flag("do_rotary") or call.flag("past_present_share_buffer"):
        raise call.node.unsupported("past keys and rotary positions are not supported")
    x, weight = call.tensor(0), call.tensor(1)
    weight = weight if 1 in call.prepared else weight.t()
    sizes = call.ints("qkv_hidden_sizes") or [weight.shape[0] // 3] * 3
    q, k, v = torch.split(F.linear(x, weight, call.maybe(2)), sizes, -1)
    return _attended(call, q, k, v, call.maybe(3), call.maybe(5))


@onnx_op("MultiHeadAttention", domain=MICROSOFT, weights={3: "bias"})
def multi_head_attention(call: Call) -> Tensor:
    """softmax(q·kᵀ/√d + mask)·v for each head, with a bias added to q, k and v before."""
    if not call.has(1) or not call.has(2) or any(call.has(position) for position in (6, 7, 8, 9)):
        raise call.node.unsupported("packed or past keys and values are not supported")
    q, k, v = (call.tensor(position) for position in range(3))
    if q.dim() != 3:
        raise call.node.unsupported(f"a query of {q.dim()} dimensions is not supported")
    if call.has(3):
        inner = v.shape[-1] if v.dim() == 3 else v.shape[1] * v.shape[-1]
        biases = torch.split(call.tensor(3), [q.shape[-1], q.shape[-1], inner])
        q, k, v = (_biased(call, x, b) for x, b in zip((q, k, v), biases, strict=True))
    return _attended(call, q, k, v, call.maybe(4), call.maybe(5))


def _biased(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    return x + bias if x.dim() == 3 else x + _heads(call, bias.reshape(1, 1, -1))


def _heads(call: Call, x: Tensor) -> Tensor:
    """[N, S, heads·D] to [N, heads, S, D]."""
    return x if x.dim() == 4 else x.reshape(x.shape[0], x.shape[1], call.integer("num_heads", 1), -1).transpose(1, 2)


def _attended(call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    q, k, v = _heads(call, q), _heads(call, k), _heads(call, v)
    scale = call.real("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    added = _added(call, q, k, mask)
    if bias is not None:
        added = bias if added is None else added + bias
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale).transpose(1, 2).flatten(2)


def _added(call: Call, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    """What is added to the products: a large negative number where a key doesn't count."""
    low, added = call.real("mask_filter_value", _MASKED), None
    if mask is not None:
        if mask.dim() == 1 and mask.shape[0] == q.shape[0]:
            mask = torch.arange(k.shape[2], device=q.device) < mask[:, None]
        if mask.dim() not in (2, 3):
            raise call.node.unsupported("only masks of one number a key, or one length a sample, are supported")
        shaped = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
        added = (1 - shaped.to(q.dtype)) * low
    if call.flag("unidirectional"):
        future = torch.ones(q.shape[2], k.shape[2], device=q.device).triu(1) * low
        added = future if added is None else added + future
    return added


@onnx_op("EmbedLayerNormalization", domain=MICROSOFT, weights={2: "weight"})
def embed_layer_normalization(call: Call) -> list[Tensor]:
    """layer_norm(words + positions [+ segments])."""
    ids = call.tensor(0).long()
    embedded = F.embedding(ids, call.tensor(2))
    positions = call.tensor(3)
    if call.has(8):
        embedded = embedded + F.embedding(call.tensor(8).long(), positions)
    else:
        embedded = embedded + positions[: ids.shape[1]]
    if call.has(4):
        embedded = embedded + F.embedding(call.tensor(1).long(), call.tensor(4))
    gamma = call.tensor(5)
    result = F.layer_norm(embedded, list(gamma.shape), gamma, call.tensor(6), call.real("epsilon", 1e-12))
    lengths = call.tensor(7).sum(1).to(torch.int32) if call.has(7) else torch.zeros_like(ids[:, 0], dtype=torch.int32)
    return [result, lengths, embedded][: call.outputs]
