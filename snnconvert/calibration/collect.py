"""The calibration pass: runs the ANN's graph once over the images and keeps statistics, not values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.histogram import ValueHistogram
from snnconvert.calibration.sample import ContentSample
from snnconvert.errors import ConversionError, InputError


class _Recorder(fx.Interpreter):
    """Runs a graph and feeds the values of some nodes to histograms; values are freed as soon as used."""

    def __init__(self, graph_module: fx.GraphModule, histograms: Mapping[str, ValueHistogram]) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self._histograms = histograms

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._histograms:
            self._histograms[n.name].update(value)
        return value


def collect_statistics(
    graph_module: fx.GraphModule, batches: Iterable[Tensor], sites: Mapping[str, str], device: torch.device
) -> tuple[dict[str, ValueHistogram], Tensor, int]:
    """Streams the batches through the ANN's graph once.

    Args:
        graph_module: the canonical graph.
        batches: input batches [N, ...].
        sites: layer name of each graph node to observe, by node name.
        device: where the graph lives.

    Returns:
        The histogram of each node, a fixed sample of the inputs [K, ...], and the number of inputs.

    Raises:
        InputError: if there are no batches, or one has another shape than the first.
        ConversionError: if an activation becomes NaN or Inf, naming its layer.
    """
    histograms = {name: ValueHistogram() for name in sites}
    recorder = _Recorder(graph_module, histograms)
    sample = ContentSample()
    count, shape = 0, None
    with torch.no_grad():
        for batch in batches:
            shape = shape or batch.shape[1:]
            if batch.shape[1:] != shape:
                raise InputError(
                    f"batch of shape {tuple(batch.shape)} after samples of shape {tuple(shape)}: one size only"
                )
            recorder.run(batch.to(device))
            sample.update(batch)
            count += batch.shape[0]
    if count == 0:
        raise InputError("the calibration loader is empty: give it at least one batch")
    for name, histogram in histograms.items():
        if not histogram.finite:
            raise ConversionError(f"{sites[name]}: activations reach NaN or Inf on the calibration images")
    return histograms, sample.tensor(), count
