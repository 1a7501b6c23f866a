"""Portions: a large batch goes through a runtime a few samples at a time, so that activations stay in the caches."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import onnx
import torch
from torch import Tensor, fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.traces import traced
from snnconvert.neurons.synapse import Synapse

_FEWEST_SAMPLES = 8
_MACS_OF_A_THREAD = 8_000_000_000


def macs_of_samples(network: fx.GraphModule, signature: Signature, model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the synapses for one sample; 0 if some output of the model has no batch.

    Args:
        network: the spiking graph, on the CPU; it is run once on zeros.
        signature: how it is called.
        model: its ONNX model.
    """
    return _synaptic_macs(network, signature) if _returns_batches(model) else 0


def portion_of(macs: int, threads: int | None) -> int | None:
    """How many samples a runtime is given at a time: at least 8, and 8 billion multiply-accumulates a thread.

    Fewer samples keep more of what layers hand on in the caches; below that the calls themselves take time.

    Args:
        macs: of one sample, as :func:`macs_of_samples` counts them.
        threads: of one call; None: one for each of the machine's.

    Returns:
        None if there is nothing to count.
    """
    if not macs:
        return None
    wanted = _MACS_OF_A_THREAD * (threads or os.cpu_count() or 1)
    return max(_FEWEST_SAMPLES, math.ceil(wanted / macs))


def in_portions(
    run: Callable[[Sequence[Tensor]], list[Tensor]], leaves: Sequence[Tensor], signature: Signature, portion: int
) -> list[Tensor]:
    """What a runtime returns for a batch, given as few portions of nearly the same size as hold it.

    Args:
        run: the runtime's.
        leaves: the tensors of one call.
        signature: which of them have a batch.
        portion: the largest portion.
    """
    count = math.ceil(signature.batch_of(tuple(leaves)) / portion)
    if count < 2:
        return run(leaves)
    split = [
        leaf.tensor_split(count) if spec.batched else (leaf,) * count
        for spec, leaf in zip(signature.tensors, leaves, strict=True)
    ]
    found = [run(part) for part in zip(*split, strict=True)]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _returns_batches(model: onnx.ModelProto) -> bool:
    """Whether the first dimension of every output is the batch, by its name."""
    sizes = [[size.dim_param for size in output.type.tensor_type.shape.dim] for output in model.graph.output]
    return all(size[:1] == ["batch"] for size in sizes)


def _synaptic_macs(network: fx.GraphModule, signature: Signature) -> int:
    """Multiply-accumulates of the synapses for one sample."""
    total = 0
    for node, trace in traced(network, signature).items():
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Synapse):
            total += math.prod(trace.shape) * math.prod(module.weight.shape[1:])
    return total
