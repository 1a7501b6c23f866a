"""Groups against plans made anew from the overrides they give."""

import dataclasses

import numpy as np
import pytest
from allocation_networks import PLAIN, Attention, Residual, images_for, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

import snnconvert
from snnconvert.allocation.choices import Choices
from snnconvert.allocation.groups import bits_price, group_layers
from snnconvert.allocation.problem import Solution
from snnconvert.convert.planner import make_plan
from snnconvert.preparation import prepare

PREPARED = {kind: prepare(seeded(kind), images_for(kind)[:2], PLAIN) for kind in (Residual, Attention)}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([Residual, Attention]), st.integers(0, 10**6), st.integers(1, 8))
def test_a_plan_made_with_the_overrides_costs_what_the_solution_says(kind, seed, T):
    prepared = PREPARED[kind]
    groups = group_layers(prepared.plan, PLAIN, Choices(T=T))
    rng = np.random.default_rng(seed)
    words = tuple(int(rng.integers(len(group.options))) for group in groups.words)
    weights = tuple(int(rng.integers(len(layer.options))) for layer in groups.layers)
    cost = groups.problem_of_costs(bits_price).cost(words, weights)
    overrides = groups.overrides(Solution(words, weights, 0.0, cost))
    plan = make_plan(prepared.graph, dataclasses.replace(PLAIN, overrides=overrides))
    assert cost == pytest.approx(plan.bit_budget * plan.spiking_macs, rel=1e-12)
    for layer, option in zip(groups.layers, weights, strict=True):
        told = {item.weight_bits for item in plan.synapses if item.layer == layer.name}
        assert told == {layer.options[option]}
    assert {item.bits * item.T for item in plan.synapses if item.reads_input} == {8}


def test_layers_that_read_the_same_spikes_are_in_one_group():
    groups = group_layers(PREPARED[Residual].plan, PLAIN, Choices())
    read = {layer.name: layer.group for layer in groups.layers}
    assert read["one"] == read["shortcut"]
    assert len({read["stem"], read["one"], read["two"], read["head"]}) == 4
    assert groups.words[read["stem"]].kept


def test_both_factors_of_a_product_are_in_one_group_and_cost_its_square():
    prepared = PREPARED[Attention]
    groups = group_layers(prepared.plan, PLAIN, Choices())
    assert len(groups.products) == 2
    problem = groups.problem_of_costs(bits_price)
    for item, group in groups.products:
        assert {item.family, item.held_family} <= groups.words[group].families
        squares = [option**2 for option in groups.words[group].options]
        assert problem.word_costs[group] == pytest.approx([item.macs * square for square in squares])


def test_what_overrides_say_is_kept():
    config = dataclasses.replace(PLAIN, overrides={"one": {"bits": 3, "T": 2}, "t.*": {"weight_bits": 7}})
    prepared = prepare(seeded(Residual), images_for(Residual)[:2], config)
    groups = group_layers(prepared.plan, config, Choices())
    layers = {layer.name: layer for layer in groups.layers}
    assert groups.words[layers["shortcut"].group].options == (6,)
    assert layers["two"].options == (7,)
    assert not layers["one"].kept


def test_neurons_that_are_not_packed_are_kept():
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=6)
    prepared = prepare(seeded(Residual), images_for(Residual)[:2], config)
    groups = group_layers(prepared.plan, config, Choices())
    assert all(group.kept for group in groups.words)
    assert not any(layer.kept for layer in groups.layers)
