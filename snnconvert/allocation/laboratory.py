"""Where perturbations are measured: the ANN's twin, a fixed sample, and every width's thresholds and weights."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from tqdm import tqdm

from snnconvert.allocation.fake_weights import FakeWeights
from snnconvert.allocation.groups import Groups
from snnconvert.allocation.problem import Solution
from snnconvert.allocation.twin import Branch, Quantization, Twin, channel_means, quantized, relative_error
from snnconvert.calibration.collect import Statistics
from snnconvert.calibration.histogram import fixed_subset
from snnconvert.conversion import PreparedConversion, thresholds_of
from snnconvert.neurons.activity import activity_of_words
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold

_MOST_IMAGES, _FEWEST_IMAGES = 64, 4
_MOST_MACS = 8e12
_FEW_WORDS, _FEW_WEIGHTS = frozenset({1, 2, 3, 4, 6}), frozenset({2, 3, 4, 6})


class Laboratory:
    """Measures what quantizing parts of a network does to its output.

    Args:
        prepared: the network.
        statistics: of its calibration pass.
        groups: what may be quantized by itself.
        progress: show progress bars.

    Attributes:
        groups: the same.
        images: how many images it measures on: at most 64 of the calibration pass's own sample, fewer where
            a run is expensive.
        word_options: of each group the widths it measures; all of them, or of a big network 1, 2, 3, 4 and 6 bits.
        weight_options: of each layer, likewise; 2, 3, 4 and 6 bits.
        set_bits: share of ones among the bits of the words of (family, word bits).
        reference: the ANN's outputs.
    """

    def __init__(
        self, prepared: PreparedConversion, statistics: Statistics, groups: Groups, *, progress: bool = False
    ) -> None:
        self.groups, self._prepared, self._progress = groups, prepared, progress
        self._thresholds = _all_thresholds(prepared, statistics, groups)
        few = self._runs() * prepared.plan.total_macs * _MOST_IMAGES > _MOST_MACS
        self.word_options = [_some(group.options, _FEW_WORDS if few else None) for group in groups.words]
        self.weight_options = [_some(layer.options, _FEW_WEIGHTS if few else None) for layer in groups.layers]
        self.images = self._affordable_images(statistics)
        self.sample = _first(prepared, statistics, self.images)
        survey = _Survey(self)
        survey.run_all()
        self.set_bits: Mapping[tuple[int, int], float] = survey.set_bits
        self._weights = survey.weights
        means = survey.means if prepared.config.bias_correction else {}
        self.twin = Twin(prepared.graph, prepared.plan, means)
        self.reference = Twin(prepared.graph, prepared.plan).run_from_start(self.sample, Quantization())

    def words(self, group: int, option: int) -> Quantization:
        """The neurons of a group at one of its widths."""
        return Quantization({family: self._thresholds[family, option] for family in self.groups.words[group].families})

    def weights(self, layer: int, bits: int) -> Quantization:
        """A layer's weights at a width."""
        items = self.groups.layers[layer].items
        return Quantization(weights={item.node: self._weights[item.node].at(bits) for item in items})

    def of_solution(self, solution: Solution) -> Quantization:
        """Everything at the widths of an allocation."""
        result = Quantization()
        for group, option in enumerate(solution.words):
            result = result.changed(self.words(group, self.groups.words[group].options[option]))
        for layer, option in enumerate(solution.weights):
            result = result.changed(self.weights(layer, self.groups.layers[layer].options[option]))
        return result

    def errors(self, base: Quantization, changes: Sequence[Quantization], what: str) -> list[float]:
        """Relative squared error of the output for each change of a base, one streaming pass.

        Args:
            base: what is quantized anyway.
            changes: each on top of the base alone.
            what: said beside the progress bar.
        """
        branches = [Branch(self.twin.start_of(change), base.changed(change)) for change in changes]
        found = [0.0] * len(changes)
        runs = self.twin.branches(self.sample, base, branches)
        bar = tqdm(runs, desc=what, total=len(branches), unit="run", disable=None if self._progress else True)
        for index, outputs in bar:
            found[index] = relative_error(self.reference, outputs)
        return found

    def _runs(self) -> float:
        """Whole runs that measuring every option takes: a run from the middle is half of one."""
        options = [*(group.options for group in self.groups.words), *(layer.options for layer in self.groups.layers)]
        return sum(map(len, options)) / 2

    def _affordable_images(self, statistics: Statistics) -> int:
        runs = (sum(map(len, self.word_options)) + sum(map(len, self.weight_options))) / 2 + 2
        affordable = int(_MOST_MACS / (runs * max(self._prepared.plan.total_macs, 1)))
        available = self._prepared.signature.batch_of(statistics.sample)
        return min(max(affordable, _FEWEST_IMAGES), _MOST_IMAGES, available)

    def survey_needs(
        self,
    ) -> tuple[PreparedConversion, Mapping[tuple[int, int], Threshold], dict[str, tuple[int, ...]]]:
        """The network, the threshold of each (family, word bits), and the widths to round each synapse at."""
        widths = {
            item.node: options
            for layer, options in zip(self.groups.layers, self.weight_options, strict=True)
            for item in layer.items
        }
        return self._prepared, self._thresholds, widths


class _Survey(fx.Interpreter):
    """One run of the ANN that sees each synapse's inputs and outputs, and each site's values."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._prepared, self._thresholds, self._widths = laboratory.survey_needs()
        super().__init__(self._prepared.graph)
        self._sample, self._images = laboratory.sample, laboratory.images
        self._sites = {site.node: site for site in self._prepared.plan.sites if site.origin != "repeater"}
        self._synapses = {item.node: item for item in self._prepared.plan.synapses}
        self._learns = self._prepared.config.weight_rounding == "gptq" and _is_packed(self._prepared)
        self._words: defaultdict[int, list[int]] = defaultdict(list)
        for family, option in self._thresholds:
            self._words[family].append(option)
        self._counts: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        self.means: dict[str, Tensor] = {}
        self.weights: dict[str, FakeWeights] = {}

    def run_all(self) -> None:
        with torch.no_grad():
            self.run(*self._sample)

    @property
    def set_bits(self) -> dict[tuple[int, int], float]:
        """Share of ones by (family, word bits)."""
        return {key: ones / max(bits, 1) for key, (ones, bits) in self._counts.items()}

    def run_node(self, n: fx.Node) -> Any:
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
        step = self._thresholds[item.family, middle].step
        weights = FakeWeights(self._prepared.graph, node, step, self.env[source] if self._learns else None)
        weights.prepare(self._widths[node.name])
        self.weights[node.name] = weights

    def _count(self, name: str, value: Tensor) -> None:
        site = self._sites[name]
        subset = fixed_subset(value.flatten(1)) if value.dim() > 1 else value
        for option in self._words[site.family]:
            threshold = self._thresholds[site.family, option]
            if isinstance(threshold.code, PackedCode):
                words = (quantized(subset, threshold, site) / threshold.step).round()
                activity = activity_of_words(words, threshold.code)
                counts = self._counts[site.family, option]
                counts[0] += activity.set_bits
                counts[1] += activity.windows * threshold.code.word_bits


def _all_thresholds(
    prepared: PreparedConversion, statistics: Statistics, groups: Groups
) -> dict[tuple[int, int], Threshold]:
    """The threshold of each (family, option) of the groups."""
    plan, config = prepared.plan, prepared.config
    found: dict[tuple[int, int], Threshold] = {}
    kept = {family: group.options[0] for group in groups.words if group.kept for family in group.families}
    sites = tuple(site for site in plan.sites if site.family in kept)
    own = thresholds_of(dataclasses.replace(plan, sites=sites), statistics.histograms, config)
    found.update({(family, option): own[family] for family, option in kept.items()})
    families = {family for group in groups.words if not group.kept for family in group.families}
    for option in groups.choices.word_bits:
        bits, steps = groups.choices.split(option)
        sites = tuple(dataclasses.replace(s, bits=bits, T=steps) for s in plan.sites if s.family in families)
        at_option = thresholds_of(dataclasses.replace(plan, sites=sites), statistics.histograms, config)
        found.update({(family, option): threshold for family, threshold in at_option.items()})
    return found


def _some(options: Sequence[int], wanted: Iterable[int] | None) -> tuple[int, ...]:
    """Those of the options that are wanted; all if none of them is."""
    return tuple(option for option in options if wanted is None or option in wanted) or tuple(options)


def _first(prepared: PreparedConversion, statistics: Statistics, images: int) -> list[Tensor]:
    specs = prepared.signature.tensors
    return [
        (tensor[:images] if spec.batched else tensor).to(prepared.device)
        for spec, tensor in zip(specs, statistics.sample, strict=True)
    ]


def _is_packed(prepared: PreparedConversion) -> bool:
    return all(isinstance(site.code, PackedCode) for site in prepared.plan.sites)
