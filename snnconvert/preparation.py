"""The first half of a conversion: a network captured and planned."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from snnconvert.config import ConversionConfig, LayerOverride, matches
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import Sizes, capture_call
from snnconvert.convert.channels import SpikeChannels, spike_channels
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.passes.relay_residuals import relay_residuals
from snnconvert.convert.passes.split_shortcuts import split_shortcuts
from snnconvert.convert.plan import Plan
from snnconvert.convert.planner import make_plan, narrows_synapses
from snnconvert.convert.signature import Signature
from snnconvert.convert.structure import flatten_inputs, unflatten_inputs
from snnconvert.errors import InputError
from snnconvert.inputs import Inputs


@dataclass(frozen=True)
class PreparedConversion:
    """A network captured and planned, before calibration.

    Attributes:
        graph: the canonical graph.
        signature: how the network is called and what it returns.
        plan: what will be converted.
        config: the settings.
        device: where the network lives.
        dtype: its floating type.
        notes: what could not be done as wished, for the report.
        patterns: the overrides that match some of its layers.
    """

    graph: fx.GraphModule
    signature: Signature
    plan: Plan
    config: ConversionConfig
    device: torch.device
    dtype: torch.dtype
    notes: tuple[str, ...] = ()
    patterns: frozenset[str] = frozenset()

    @cached_property
    def channels(self) -> SpikeChannels:
        """Which sites have thresholds per channel: none unless the settings ask for it."""
        wanted = self.config.threshold_granularity != "tensor"
        return spike_channels(self.graph, self.plan) if wanted else SpikeChannels()


def prepare(
    model: nn.Module,
    example: Tensor | Inputs,
    config: ConversionConfig | None = None,
    *,
    sizes: Sizes | None = None,
    prefix: str = "",
    narrow: bool = False,
) -> PreparedConversion:
    """The first half of :func:`convert`: captures and plans; needs no images beyond an example [N, ...].

    Args:
        model: the network.
        example: one or more input samples, or the arguments of one call.
        config: the settings.
        sizes: see :func:`~snnconvert.convert.capture.capture_call`; by default what the settings say.
        prefix: of a part of a larger model, what its layers' names begin with in the overrides.
        narrow: whether synapses may come to read narrower windows than the settings say.

    Raises:
        InputError: if the example is neither tensor nor Inputs.
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    if not isinstance(example, (Tensor, Inputs)):
        raise InputError(f"the example is {type(example).__name__}: give a tensor [N, ...] or snnconvert.Inputs")
    config = config or ConversionConfig()
    device, dtype = placement(model)
    sizes = sizes or ("dynamic" if config.dynamic_sizes else "fixed")
    captured = capture_call(model, _moved(example, device), sizes=sizes)
    graph = canonicalize(captured.graph)
    notes = (f"converted for one image size: {captured.note}",) if captured.note else ()
    patterns: frozenset[str] = frozenset()
    if prefix:
        config, patterns = _of_part(config, graph, prefix)
    if config.residuals == "spikes":
        graph = relay_residuals(graph, make_plan(graph, config))
    if narrow or narrows_synapses(config):
        graph = split_shortcuts(graph)
    conversion_plan = make_plan(graph, config)
    return PreparedConversion(graph, captured.signature, conversion_plan, config, device, dtype, notes, patterns)


def _of_part(config: ConversionConfig, graph: fx.GraphModule, prefix: str) -> tuple[ConversionConfig, frozenset[str]]:
    """The settings of a part, with an override for each of its own layers, and the patterns that match them."""
    layers = [layer_name(node) for node in graph.graph.nodes if kind_of(node) in (OpKind.SYNAPSE, OpKind.PRODUCT)]
    overrides = {re.escape(layer): config.override_for(prefix + layer) for layer in layers}
    told = {layer: override for layer, override in overrides.items() if override != LayerOverride()}
    used = {pattern for pattern in config.overrides for layer in layers if matches(pattern, prefix + layer)}
    return dataclasses.replace(config, overrides=told, parts=()), frozenset(used)


def _moved(example: Tensor | Inputs, device: torch.device) -> Inputs:
    given = example if isinstance(example, Inputs) else Inputs(example)
    leaves, structure = flatten_inputs(given, "the example")
    return unflatten_inputs(structure, [leaf.to(device) for leaf in leaves])


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device of the model's tensors, and the floating type of its parameters."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return (tensors[0].device if tensors else torch.device("cpu")), (floating[0] if floating else torch.float32)
