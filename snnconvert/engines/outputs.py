"""What a spiking graph gives, by whichever engine is right for its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.engines.stepwise import is_exact, simulate


def network_output(network: fx.GraphModule, leaves: Sequence[Tensor]) -> Any:
    """A spiking graph's outputs: packed where that is exact, else in time.

    Args:
        network: the spiking graph.
        leaves: the tensors of one call.
    """
    with torch.no_grad():
        return network(*leaves) if is_exact(network) else simulate(network, [tuple(leaves)]).output
