"""Which layers must agree: groups of neurons that share their words, and layers that share their weights' width."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from snnconvert.allocation.choices import Choices
from snnconvert.allocation.problem import FloatArray, Problem, Solution
from snnconvert.config import ConversionConfig, LayerOverride
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.neurons.word import WordCode

Price = Callable[[SynapsePlan, int, int], float]


@dataclass(frozen=True)
class WordGroup:
    """Neurons whose words have one width, since one layer (or layers of one name) reads them all.

    Attributes:
        families: families of sites.
        options: the word widths b_s·T to choose from; of a group that is kept as it is, its largest.
        kept: whether its words are given: the network's input, neurons that aren't packed or that no synapse
            reads (they feed pools), and what overrides already say.
    """

    families: frozenset[int]
    options: tuple[int, ...]
    kept: bool


@dataclass(frozen=True)
class WeightLayer:
    """A layer, or several of one name, whose weights have one width.

    Attributes:
        name: the layer's name.
        items: its synapses.
        group: index of the words they read.
        options: the weight widths to choose from.
        kept: whether an override already gives them.
    """

    name: str
    items: tuple[SynapsePlan, ...]
    group: int
    options: tuple[int, ...]
    kept: bool


@dataclass(frozen=True)
class Groups:
    """All that an allocation decides on.

    Attributes:
        words: the groups of neurons.
        layers: the layers with weights.
        products: products of two activations, each with the index of its words.
        choices: the allowed widths.
    """

    words: tuple[WordGroup, ...]
    layers: tuple[WeightLayer, ...]
    products: tuple[tuple[SynapsePlan, int], ...]
    choices: Choices

    def widths_of(self, item: SynapsePlan, group: int, option: int) -> int:
        """Bits b_s·T of the words an item reads if its group takes a width."""
        return item.bits * item.T if self.words[group].kept else option

    def problem(self, word_errors: Sequence[FloatArray], weight_errors: Sequence[FloatArray], price: Price) -> Problem:
        """The problem of choosing widths at a price per item, weight bits and word bits.

        Args:
            word_errors: of each group, one per option.
            weight_errors: of each layer, one per option.
            price: what a synapse costs at (weight bits, word bits); of a product, the held words' bits are
                its weight bits.
        """
        word_costs = [np.zeros(len(group.options)) for group in self.words]
        for item, group in self.products:
            for index, option in enumerate(self.words[group].options):
                held = item.weight_bits if self.words[group].kept else option
                word_costs[group][index] += price(item, held, self.widths_of(item, group, option))
        return Problem(
            tuple(layer.group for layer in self.layers),
            tuple(word_errors),
            tuple(weight_errors),
            tuple(word_costs),
            tuple(self._pair_costs(layer, price) for layer in self.layers),
        )

    def problem_of_costs(self, price: Price) -> Problem:
        """The same with no errors."""
        words = [np.zeros(len(group.options)) for group in self.words]
        return self.problem(words, [np.zeros(len(layer.options)) for layer in self.layers], price)

    def _pair_costs(self, layer: WeightLayer, price: Price) -> FloatArray:
        words = self.words[layer.group].options
        return np.array(
            [
                [
                    sum(price(item, bits, self.widths_of(item, layer.group, word)) for item in layer.items)
                    for bits in layer.options
                ]
                for word in words
            ],
            dtype=np.float64,
        )

    def overrides(self, solution: Solution) -> dict[str, LayerOverride]:
        """What a solution tells each layer, by a pattern that matches nothing but its name."""
        return {re.escape(layer): override for layer, override in self.by_layer(solution).items()}

    def by_layer(self, solution: Solution) -> dict[str, LayerOverride]:
        """What a solution tells each layer, by its name; nothing where all is kept."""
        told: dict[str, LayerOverride] = {}
        for item, group in self.products:
            told[item.layer] = self._words_override(solution, group)
        for layer, option in zip(self.layers, solution.weights, strict=True):
            override = self._words_override(solution, layer.group)
            if not layer.kept:
                override = override.merged_with(LayerOverride(weight_bits=layer.options[option]))
            told[layer.name] = override
        return {layer: override for layer, override in told.items() if override != LayerOverride()}

    def _words_override(self, solution: Solution, group: int) -> LayerOverride:
        if self.words[group].kept:
            return LayerOverride()
        bits, steps = self.choices.split(self.words[group].options[solution.words[group]])
        return LayerOverride(bits=bits, T=steps)


def group_layers(plan: Plan, config: ConversionConfig, choices: Choices) -> Groups:
    """The groups of a plan; what the settings' own overrides say is kept."""
    roots = joined_families(plan)
    families: defaultdict[int, set[int]] = defaultdict(set)
    for family, root in roots.items():
        families[root].add(family)
    order = {root: index for index, root in enumerate(sorted(families))}
    kept = {roots[family] for family in _kept_families(plan, config)}
    widths = {site.family: site.bits * site.T for site in plan.sites}
    words = tuple(
        WordGroup(
            frozenset(families[root]),
            (max(widths[family] for family in families[root]),) if root in kept else choices.word_bits,
            root in kept,
        )
        for root in sorted(families)
    )
    named: defaultdict[str, list[SynapsePlan]] = defaultdict(list)
    for item in plan.synapses:
        if item.held is None:
            named[item.layer].append(item)
    layers = tuple(_layer(name, items, order[roots[items[0].family]], config, choices) for name, items in named.items())
    products = tuple((item, order[roots[item.family]]) for item in plan.synapses if item.held is not None)
    return Groups(words, layers, products, choices)


def _layer(
    name: str, items: Sequence[SynapsePlan], group: int, config: ConversionConfig, choices: Choices
) -> WeightLayer:
    given = config.override_for(name).weight_bits
    options = choices.weight_bits if given is None else (given,)
    return WeightLayer(name, tuple(items), group, options, given is not None)


def joined_families(plan: Plan) -> dict[int, int]:
    """The smallest family of the group of each family."""
    roots = {site.family: site.family for site in plan.sites}
    by_name: dict[str, int] = {}
    for item in plan.synapses:
        for family in _families_of(item):
            first, second = roots[by_name.setdefault(item.layer, family)], roots[family]
            low, high = min(first, second), max(first, second)
            roots = {key: low if root == high else root for key, root in roots.items()}
    return roots


def _families_of(item: SynapsePlan) -> tuple[int, ...]:
    return (item.family,) if item.held_family is None else (item.family, item.held_family)


def _kept_families(plan: Plan, config: ConversionConfig) -> set[int]:
    kept = {site.family for site in plan.sites if site.origin == "input" or not isinstance(site.code, WordCode)}
    kept |= {site.family for site in plan.sites} - {family for item in plan.synapses for family in _families_of(item)}
    for item in plan.synapses:
        override = config.override_for(item.layer)
        if (override.bits, override.T, override.neuron) != (None, None, None):
            kept.update(_families_of(item))
    return kept


def bits_price(item: SynapsePlan, weight_bits: int, word_bits: int) -> float:
    """MAC·b_w·b_s·T: an item's part of S-ACE."""
    return float(item.macs * weight_bits * word_bits)


def _widest(options: Sequence[int], word: int) -> int:
    """The position of the widest option that is no wider than a word; of the narrowest if none is."""
    return max((index for index, option in enumerate(options) if option <= word), default=0)


def solution_at(groups: Groups, problem: Problem, plan: Plan) -> Solution:
    """The solution that gives every open group and layer the width a plan has, each kept one its only option."""
    word_of = {site.family: site.bits * site.T for site in plan.sites}
    weights = {item.layer: item.weight_bits for item in plan.synapses}
    words = tuple(0 if group.kept else _widest(group.options, word_of[min(group.families)]) for group in groups.words)
    widths = tuple(0 if layer.kept else layer.options.index(weights[layer.name]) for layer in groups.layers)
    return Solution(words, widths, problem.error(words, widths), problem.cost(words, widths))
