"""Readable names: /layer1/layer1.0/conv1/Conv becomes layer1.0.conv1."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Sequence

from snnconvert.models.onnx.node import OnnxNode

_WEIGHTED = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "QLinearConv", "QLinearMatMul", "QGemm",
        "FusedMatMul", "ConvInteger", "MatMulInteger",
    }
)  # fmt: skip
_LONGEST_NAME = 200


def layer_names(nodes: Sequence[OnnxNode]) -> list[str]:
    """One dotted name for each node, all different; layers with weights get the short names first."""
    long = [_path(node) for node in nodes]
    short = [_without_operator(node, path) for node, path in zip(nodes, long, strict=True)]
    weighted = Counter(name for node, name in zip(nodes, short, strict=True) if node.op_type in _WEIGHTED)
    plain = Counter(short)
    names: list[str] = []
    taken: set[str] = set()
    for node, whole, brief in zip(nodes, long, short, strict=True):
        is_first = weighted[brief] == 1 if node.op_type in _WEIGHTED else weighted[brief] == 0 and plain[brief] == 1
        names.append(_unused(brief if is_first else whole, taken))
    return names


def _unused(name: str, taken: set[str]) -> str:
    candidate, index = name, 0
    while candidate in taken:
        index += 1
        candidate = f"{name}_{index}"
    taken.add(candidate)
    return candidate


def _path(node: OnnxNode) -> str:
    weight = node.inputs[1] if node.op_type in _WEIGHTED and len(node.inputs) > 1 else None
    if (
        weight
        and re.fullmatch(rf"(({node.op_type})?_?\d*)|(node_\w+)", node.name)
        and re.search(r"\w\.weight$", weight)
    ):
        return _cleaned([weight.removesuffix(".weight")])
    if len(node.scopes) > 1 and any(node.scopes[:-1]):
        return _cleaned([node.scopes[-2], node.op_type] if node.scopes[-2] else [node.name])
    return _cleaned([piece for piece in re.split(r"/+", node.name) if piece] or [node.op_type])


def _cleaned(pieces: Sequence[str]) -> str:
    """Joins by dots; a piece that repeats the one before, as PyTorch's exporter writes, replaces it.

    A piece that is a word of Python's gets an underscore, for captured graphs are code.
    """
    joined: list[str] = []
    for piece in pieces:
        clean = re.sub(r"[^\w.-]+", "_", piece).strip(".") or "_"
        if joined and clean.startswith(f"{joined[-1]}."):
            joined.pop()
        joined.append(clean)
    parts = [part for part in ".".join(joined)[:_LONGEST_NAME].split(".") if part]
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in parts)


def _without_operator(node: OnnxNode, path: str) -> str:
    head, _, last = path.rpartition(".")
    return head if head and re.fullmatch(rf"{re.escape(node.op_type)}(_\d+)?", last) else path
