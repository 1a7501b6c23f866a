"""Sizes and types of everything a spiking graph computes, from one trial run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.signature import Signature


@dataclass(frozen=True)
class Trace:
    """A tensor's shape and type, for one sample.

    Attributes:
        shape: with a batch of one.
        dtype: its type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


def traced(network: fx.GraphModule, signature: Signature) -> dict[fx.Node, Trace]:
    """Runs a network on zeros and notes what its nodes return, where that is a tensor."""
    recorder = _Recorder(network)
    with torch.no_grad():
        recorder.run(*(spec.trial(1) for spec in signature.tensors))
    return recorder.traces


class _Recorder(fx.Interpreter):
    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.traces: dict[fx.Node, Trace] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.traces[n] = Trace(tuple(result.shape), result.dtype)
        return result
