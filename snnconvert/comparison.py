"""A spiking graph beside the ANN it was made of, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.engines.outputs import network_output
from snnconvert.evaluation import Evaluation, compare_outputs
from snnconvert.preparation import PreparedConversion


def compare_graphs(
    prepared: PreparedConversion, network: fx.GraphModule, batches: Iterable[tuple[Sequence[Tensor], Tensor | None]]
) -> Evaluation:
    """Counts over the tensors of each call, with labels or None.

    Args:
        prepared: the network, with its canonical graph.
        network: the spiking graph.
        batches: the calls.

    Raises:
        InputError: if there are no images.
    """

    def outputs() -> Iterator[tuple[int, Any, Any, Tensor | None]]:
        unflatten = prepared.signature.unflatten
        for leaves, labels in batches:
            placed = [leaf.to(prepared.device) for leaf in leaves]
            with torch.no_grad():
                expected = prepared.graph(*placed)
            actual = network_output(network, placed)
            yield prepared.signature.batch_of(placed), unflatten(expected), unflatten(actual), labels

    return compare_outputs(outputs())
