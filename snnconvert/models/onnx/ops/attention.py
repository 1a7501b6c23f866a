"""Attention and rotary positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import onnx_op


@onnx_op("Attention", since=23)
def attention(call: Call) -> list[Tensor]:
    """softmax(scale·q·kᵀ + mask)·v for each head; k and v may continue a past."""
    if call.has(6) or call.integer("left_window_size", -1) >= 0 or call.integer("right_window_size", -1) >= 0:
        raise call.node.unsupported("windows and padded keys are not supported")
    q = _heads(call.tensor(0), call.integer("q_num_heads", 0))
    k = _heads(call.tensor(1), call.integer("kv_num_heads", 0))
    v = _heads(call.tensor(2), call.integer("kv_num_heads", 0))
    past = call.tensor(4).shape[2] if call.has(4) else 0
    if call.has(4):
        k, v = torch.cat([call.tensor(4), k], 2), torch.cat([call.tensor(5), v], 2)
    present = [k, v]
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    if call.outputs <= 3 and not call.real("softcap", 0.0) and not call.flag("is_causal") and not call.has(3):
        result = F.scaled_dot_product_attention(q, k, v, scale=call.real("scale", 1 / math.sqrt(q.shape[-1])))
        scores = result
    else:
        result, scores = _explicit(call, q, k, v, past)
    if call.tensor(0).dim() == 3:
        result = result.transpose(1, 2).flatten(2)
    return [result, *present, scores][: call.outputs]


def _heads(x: Tensor, count: int) -> Tensor:
    """[N, S, heads·D] to [N, heads, S, D]."""
    return x if x.dim() == 4 else x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _explicit(call: Call, q: Tensor, k: Tensor, v: Tensor, past: int) -> tuple[Tensor, Tensor]:
    root = math.sqrt(call.real("scale", 1 / math.sqrt(q.shape[-1])))
    products = torch.matmul(q * root, (k * root).transpose(-1, -2))
    softcap = call.real("softcap", 0.0)
    capped = softcap * torch.tanh(products / softcap) if softcap else products
    masked = capped
    if call.has(3):
        masked = masked + _bias(call.tensor(3), k.shape[2])
    if call.flag("is_causal"):
        rows = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + past
        columns = torch.arange(k.shape[2], device=q.device).unsqueeze(0)
        masked = masked.masked_fill(columns > rows, float("-inf"))
    weights = torch.nan_to_num(torch.softmax(masked, -1))
    by_mode = [products, capped, masked, weights]
    return torch.matmul(weights, v), by_mode[call.integer("qk_matmul_output_mode", 0)]


def _bias(mask: Tensor, keys: int) -> Tensor:
    missing = keys - mask.shape[-1]
    if mask.dtype is torch.bool:
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))
    return F.pad(mask, [0, missing], value=float("-inf")) if missing else mask


@onnx_op("RotaryEmbedding", since=23)
def rotary_embedding(call: Call) -> Tensor:
    """Pairs of values rotated by an angle of their position."""
    x, cos, sin = call.tensor(0), call.tensor(1), call.tensor(2)
    heads = x if x.dim() == 4 else _heads(x, call.integer("num_heads", 0))
    size = call.integer("rotary_embedding_dim", 0) or heads.shape[-1]
    if call.has(3):
        cos, sin = cos[call.tensor(3).long()], sin[call.tensor(3).long()]
    cos, sin = cos[..., : size // 2].unsqueeze(1), sin[..., : size // 2].unsqueeze(1)
    turned, rest = heads[..., :size], heads[..., size:]
    if call.flag("interleaved"):
        left, right = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([left * cos - right * sin, left * sin + right * cos], -1).flatten(-2)
    else:
        left, right = turned.chunk(2, -1)
        turned = torch.cat([left * cos - right * sin, left * sin + right * cos], -1)
    result = torch.cat([turned, rest], -1)
    return result if x.dim() == 4 else result.transpose(1, 2).flatten(2)
