"""The survey before the perturbations: what each layer of the ANN reads and gives on the sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.allocation.fake_weights import FakeWeights
from snnconvert.allocation.twin import channel_means, grid_along, words_of
from snnconvert.calibration.statistics.histogram import fixed_subset
from snnconvert.convert.channels import Steps
from snnconvert.neurons.activity import activity_of_words
from snnconvert.neurons.threshold import Threshold
from snnconvert.neurons.word import WordCode
from snnconvert.preparation import PreparedConversion


class Survey(fx.Interpreter):
    """One run of the ANN that sees each synapse's inputs and outputs, and each site's values.

    Attributes:
        means: of each synapse with weights the mean output of its channels over each image, [images, C].
        weights: of each such synapse its rounded weights.
    """

    def __init__(
        self,
        prepared: PreparedConversion,
        thresholds: Mapping[tuple[int, int], Threshold],
        widths: Mapping[str, tuple[int, ...]],
        images: int,
    ) -> None:
        """Takes what is to be seen.

        Args:
            prepared: the network.
            thresholds: of each (family, word bits).
            widths: to round each synapse's weights at, by node name.
            images: how many samples the run will have.
        """
        super().__init__(prepared.graph)
        self._prepared, self._thresholds, self._widths, self._images = prepared, thresholds, widths, images
        self._sites = {site.node: site for site in prepared.plan.sites if site.origin != "repeater"}
        self._synapses = {item.node: item for item in prepared.plan.synapses}
        self._learns = prepared.config.weight_rounding == "gptq" and _is_packed(prepared)
        self._words: defaultdict[int, list[int]] = defaultdict(list)
        for family, option in self._thresholds:
            self._words[family].append(option)
        self._counts: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        self.means: dict[str, Tensor] = {}
        self.weights: dict[str, FakeWeights] = {}

    def see(self, sample: Sequence[Tensor]) -> None:
        """Runs on the tensors of one call."""
        with torch.no_grad():
            self.run(*sample)

    @property
    def set_bits(self) -> dict[tuple[int, int], float]:
        """Share of ones by (family, word bits)."""
        return {key: ones / max(bits, 1) for key, (ones, bits) in self._counts.items()}

    def run_node(self, n: fx.Node) -> Any:
        """One node's value, seen on the way."""
        value = super().run_node(n)
        if n.name in self._sites:
            self._count(n.name, value)
        if n.name in self._widths:
            self.means[n.name] = channel_means(n, value, self._images)
            self._round(n)
        return value

    def _round(self, node: fx.Node) -> None:
        item, (source, *_) = self._synapses[node.name], node.args
        assert isinstance(source, fx.Node)
        middle = self._words[item.family][(len(self._words[item.family]) - 1) // 2]
        steps = Steps({item.family: self._thresholds[item.family, middle]}, self._prepared.channels)
        shifts = steps.shifts(item.source, item.family)
        seen = self.env[source] if self._learns else None
        weights = FakeWeights(self._prepared.graph, node, steps.at(item.source, item.family), seen, shifts)
        weights.prepare(self._widths[node.name])
        self.weights[node.name] = weights

    def _count(self, name: str, value: Tensor) -> None:
        site = self._sites[name]
        for option in self._words[site.family]:
            threshold = self._thresholds[site.family, option]
            if isinstance(threshold.code, WordCode):
                words = words_of(value, threshold, site, *grid_along(self._prepared.channels, threshold, site, value))
                subset = fixed_subset(words.flatten(1)) if words.dim() > 1 else words
                activity = activity_of_words(subset, threshold.code)
                counts = self._counts[site.family, threshold.code.word_bits]
                counts[0] += activity.set_bits
                counts[1] += activity.windows * threshold.code.word_bits


def _is_packed(prepared: PreparedConversion) -> bool:
    return all(isinstance(site.code, WordCode) for site in prepared.plan.sites)
