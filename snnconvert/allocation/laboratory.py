"""Where perturbations are measured: the ANN's twin, a fixed sample, and every width's thresholds and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from tqdm import tqdm

from snnconvert.allocation.groups import Groups
from snnconvert.allocation.problem import Solution
from snnconvert.allocation.survey import Survey
from snnconvert.allocation.twin import Branch, Quantization, Twin, relative_error
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.convert.plan import Site
from snnconvert.errors import ConversionError
from snnconvert.neurons.threshold import Threshold
from snnconvert.preparation import PreparedConversion
from snnconvert.site_thresholds import site_thresholds

_TYPICAL_WEIGHT_BITS = 4
_MOST_IMAGES, _FEWEST_IMAGES = 64, 4
_MOST_MACS = 2e12
_FEW_WORDS, _FEW_WEIGHTS = frozenset({1, 2, 3, 4, 6}), frozenset({2, 3, 4, 6})


class Laboratory:
    """Measures what quantizing parts of a network does to its output.

    Args:
        prepared: the network.
        statistics: of its calibration pass.
        groups: what may be quantized by itself.
        progress: show progress bars.

    Raises:
        ConversionError: if the network returns nothing but integers or zeros.

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
        survey = Survey(prepared, self._thresholds, self._rounded_widths(), self.images)
        survey.see(self.sample)
        self.set_bits: Mapping[tuple[int, int], float] = survey.set_bits
        self._weights = survey.weights
        means = survey.means if prepared.config.bias_correction else {}
        plain = Twin(prepared.graph, prepared.plan, prepared.channels)
        self.twin = Twin(prepared.graph, prepared.plan, prepared.channels, means)
        self.reference = plain.run_from_start(self.sample, Quantization())
        if not any(bool(output.any()) for output in self.reference):
            raise ConversionError("nothing to measure widths by: the network has no floating output that isn't zero")

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

    def _rounded_widths(self) -> dict[str, tuple[int, ...]]:
        """The widths to round each synapse's weights at, by node name."""
        measured = zip(self.groups.layers, self.weight_options, strict=True)
        return {item.node: options for layer, options in measured for item in layer.items}

    def _runs(self) -> float:
        """Whole runs that measuring every option takes: a run from the middle is half of one."""
        options = [*(group.options for group in self.groups.words), *(layer.options for layer in self.groups.layers)]
        return sum(map(len, options)) / 2

    def _affordable_images(self, statistics: Statistics) -> int:
        runs = (sum(map(len, self.word_options)) + sum(map(len, self.weight_options))) / 2 + 2
        affordable = int(_MOST_MACS / (runs * max(self._prepared.plan.total_macs, 1)))
        available = self._prepared.signature.batch_of(statistics.sample)
        return min(max(affordable, _FEWEST_IMAGES), _MOST_IMAGES, available)


def _all_thresholds(
    prepared: PreparedConversion, statistics: Statistics, groups: Groups
) -> dict[tuple[int, int], Threshold]:
    """The threshold of each (family, option), by minimal squared error for "fisher"; smoothed for weights of 4 bits."""
    plan = prepared.plan
    method = "mse" if prepared.config.threshold == "fisher" else prepared.config.threshold
    config = dataclasses.replace(prepared.config, threshold=method)
    synapses = tuple(dataclasses.replace(item, weight_bits=_TYPICAL_WEIGHT_BITS) for item in plan.synapses)

    def chosen(sites: tuple[Site, ...]) -> dict[int, Threshold]:
        at_widths = dataclasses.replace(plan, sites=sites, synapses=synapses)
        return site_thresholds(prepared.graph, at_widths, config, statistics, prepared.channels, {})

    found: dict[tuple[int, int], Threshold] = {}
    kept = {family: group.options[0] for group in groups.words if group.kept for family in group.families}
    sites = tuple(site for site in plan.sites if site.family in kept)
    own = chosen(sites)
    found.update({(family, option): own[family] for family, option in kept.items()})
    families = {family for group in groups.words if not group.kept for family in group.families}
    for option in groups.choices.word_bits:
        bits, steps = groups.choices.split(option)
        sites = tuple(dataclasses.replace(s, bits=bits, T=steps) for s in plan.sites if s.family in families)
        found.update({(family, option): threshold for family, threshold in chosen(sites).items()})
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
