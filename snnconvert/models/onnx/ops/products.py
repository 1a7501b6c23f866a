"""Matrix products; with a constant right side they are linear layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import MICROSOFT, onnx_op

_WEIGHTS = {1: "weight", 2: "bias"}


def _prepare_matmul(_node: OnnxNode, position: int, tensor: Tensor) -> Tensor:
    return tensor.t().contiguous() if position == 1 and tensor.dim() == 2 else tensor


@onnx_op("MatMul", weights={1: "weight"}, prepare=_prepare_matmul)
def matmul(call: Call) -> Tensor:
    """a·b; W·x for a constant [K, N] on the right, kept as [N, K]."""
    left, right = call.tensor(0), call.tensor(1)
    if 1 in call.prepared and right.dim() == 2:
        return F.linear(left, right)
    return torch.matmul(left, right)


def _prepare_gemm(node: OnnxNode, position: int, tensor: Tensor) -> Tensor:
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    if position == 1 and tensor.dim() == 2:
        weight = tensor if node.attributes.get("transB", 0) else tensor.t().contiguous()
        return weight if alpha == 1.0 else weight * alpha
    if position == 2:
        bias = tensor.reshape(-1) if tensor.dim() == 2 and tensor.shape[0] == 1 else tensor
        return bias if beta == 1.0 else bias * beta
    return tensor


@onnx_op("Gemm", weights=_WEIGHTS, prepare=_prepare_gemm)
def gemm(call: Call) -> Tensor:
    """alpha·a'·b' + beta·c, a' and b' transposed on demand; a linear layer for a constant b."""
    left, right = call.tensor(0), call.tensor(1)
    left = left.t() if call.flag("transA") else left
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    bias = call.maybe(2)
    if bias is not None and 2 not in call.prepared and beta != 1.0:
        bias = bias * beta
    if 1 in call.prepared:
        fits = bias is not None and bias.dim() == 1 and bias.shape[0] == right.shape[0]
        result = F.linear(left, right, bias if fits else None)
        return result if bias is None or fits else result + bias
    product = torch.matmul(left, right.t() if call.flag("transB") else right)
    product = product if alpha == 1.0 else product * alpha
    return product if bias is None else product + bias


@onnx_op("FusedMatMul", domain=MICROSOFT)
def fused_matmul(call: Call) -> Tensor:
    """alpha·a'·b', the last two dimensions transposed on demand."""
    left, right = call.tensor(0), call.tensor(1)
    if call.flag("transBatchA") or call.flag("transBatchB"):
        raise call.node.unsupported("transposed batches are not supported: export without fusion")
    left = left.transpose(-1, -2) if call.flag("transA") else left
    right = right.transpose(-1, -2) if call.flag("transB") else right
    return torch.matmul(left, right) * call.real("alpha", 1.0)


@onnx_op("Einsum")
def einsum(call: Call) -> Tensor:
    """A sum of products by its equation."""
    return torch.einsum(call.text("equation", "").replace(" ", ""), *call.tensors())
