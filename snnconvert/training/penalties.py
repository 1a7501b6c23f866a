"""Penalties that make a spiking network sparse: of its activity and of its weights' Gram matrices."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from snnconvert.neurons.code import SpikeCode


def activity(values: Tensor, code: SpikeCode) -> Tensor:
    """Σ x, x = (z + o)/(largest − smallest value) in 0..1 of values z, or |z|/largest of signed ones; float32 scalar.

    dL/dz is 1/(largest − smallest value), which presses on every value alike; a neuron behind a straight-through
    estimator passes it on where it isn't silent for good or saturated.

    Source: the first penalty of Yan et al. (arXiv 2409.08290v1, official code), whose x are levels of 0..1.

    Args:
        values: z, any shape.
        code: theirs.
    """
    if code.signed:
        return values.abs().sum(dtype=torch.float32) / float(code.largest_value)
    return (values.sum(dtype=torch.float32) - values.numel() * float(code.minimum)) / float(code.span)


def gram(weights: Iterable[Tensor], identity: float = 0.0) -> Tensor:
    """½·Σ_layers ‖WᵀW − c·I‖², W reshaped to [C_out, C_in·k²].

    ‖WᵀW − cI‖² = ‖WWᵀ‖² − 2c·‖W‖² + c²·n with n columns: the smaller of the two matrices is formed. At c = 0, the
    value in the paper's code, it is a decay of the Gram matrix whose gradient is 2·W·WᵀW: it shrinks the strongest
    directions most.

    Source: the second penalty of Yan et al. (arXiv 2409.08290v1, official code).

    Args:
        weights: one [C_out, ...] for each layer, in the ANN's units.
        identity: c.
    """
    total = torch.zeros(())
    for weight in weights:
        matrix = weight.float().flatten(1)
        rows, columns = matrix.shape
        product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
        own = product.square().sum()
        if identity:
            own = own - 2 * identity * matrix.square().sum() + identity**2 * columns
        total = total.to(own.device) + own
    return 0.5 * total
