"""From a canonical graph to a plan: finds synapses, places neurons, names what stays analog."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from torch import fx

from snnconvert.config import ConversionConfig, LayerOverride, matches
from snnconvert.convert.analog_reasons import product_refusal, reason_of, synapse_refusal
from snnconvert.convert.attention_maps import CODES, AttentionMaps, attention_notes, find_attention_maps
from snnconvert.convert.elementwise import is_activation
from snnconvert.convert.flow import Carrier, Flow, infer_flows
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import (
    NORMALIZATION,
    ROLE,
    TIE,
    OpKind,
    affine_source,
    is_leaky,
    is_tensor,
    kind_of,
    op_name,
    spike_operands,
)
from snnconvert.convert.plan import AnalogPlan, Origin, Plan, Site, SynapsePlan
from snnconvert.convert.quantizers import grid_of
from snnconvert.convert.shapes import macs_per_sample
from snnconvert.errors import ConfigurationError, ConversionError
from snnconvert.neurons.registry import make_code

INPUT_NEURON = "packed"
_Code = tuple[str, int, int]
_SILENT_KINDS = frozenset({OpKind.LAYOUT, OpKind.SHAPE, OpKind.CONSTANT, OpKind.INPUT, OpKind.OUTPUT})


def make_plan(graph_module: fx.GraphModule, config: ConversionConfig) -> Plan:
    """Plans the conversion of a canonical graph.

    Raises:
        ConfigurationError: if an override matches no layer, or overrides of layers that read the same
            spikes disagree.
        ConversionError: if no layer at all would read spikes.
    """
    return _Planner(graph_module, config).plan()


class _Planner:
    def __init__(self, graph_module: fx.GraphModule, config: ConversionConfig) -> None:
        self.graph = graph_module.graph
        self.config = config
        self.kinds = {node: kind_of(node) for node in self.graph.nodes}
        self.layers = [node for node in self.graph.nodes if self.kinds[node] in _LAYERS]
        _check_overrides(config, [layer_name(node) for node in self.layers])
        self.refused = {node.name: reason for node in self.layers if (reason := self._refusal(graph_module, node))}
        self.synapses = [node for node in self.layers if node.name not in self.refused]
        self.feeding = self._ancestors(self.synapses)
        self.before_layers = self._ancestors(self.layers)
        self.after_synapse = self._descendants(self.layers)
        self.after_input = self._descendants(
            user for node in self.graph.nodes if node.op == "placeholder" for user in node.users if is_tensor(user)
        ) | {node.name for node in self.graph.nodes if node.op == "placeholder"}
        self.families: dict[str, int] = {}
        self.origins: dict[str, Origin] = {}
        self._place_neurons()
        self.attention = self._attention_maps()

    def plan(self) -> Plan:
        if not self.synapses:
            listed = "; ".join(f"{layer_name(node)}: {self.refused[node.name]}" for node in self.layers[:5])
            raise ConversionError(
                f"no layer would read spikes ({listed or 'the network has no convolution or linear layer'}): "
                "nothing to convert"
            )
        codes = self._family_codes()
        rectifiers = {name: family for name, family in self.families.items() if self.origins[name] == "activation"}
        flows = infer_flows(self.graph, rectifiers, frozenset(node.name for node in self.synapses))
        sites = tuple(self._site(node, codes, flows) for node in self.graph.nodes if node.name in self.families)
        absorbed = {site.affine for site in sites if site.affine is not None}
        return Plan(
            sites=sites,
            synapses=tuple(self._synapse(node, codes) for node in self.synapses),
            analog=tuple(self._analog(flows, absorbed)),
            notes=self._notes(codes),
        )

    def _refusal(self, graph_module: fx.GraphModule, node: fx.Node) -> str | None:
        if self.config.override_for(layer_name(node)).analog:
            return "kept analog by an override"
        return product_refusal(node) if self.kinds[node] is OpKind.PRODUCT else synapse_refusal(graph_module, node)

    @staticmethod
    def _ancestors(nodes: Iterable[fx.Node]) -> set[str]:
        found: set[str] = set()
        pending = [source for node in nodes for source in node.all_input_nodes]
        while pending:
            node = pending.pop()
            if node.name not in found:
                found.add(node.name)
                pending.extend(node.all_input_nodes)
        return found

    @staticmethod
    def _descendants(nodes: Iterable[fx.Node]) -> set[str]:
        found: set[str] = set()
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if node.name not in found:
                found.add(node.name)
                pending.extend(node.users)
        return found

    def _place_neurons(self) -> None:
        for node in self.graph.nodes:
            if node.name in self.feeding and self._is_activation(node):
                self._add_site(node, "activation")
        for synapse in self.synapses:
            for source in spike_operands(synapse):
                if source.name not in self.families:
                    self._place_neuron(source)
        self._tie_repetitions()

    def _tie_repetitions(self) -> None:
        """The steps of an unrolled recurrent layer share their thresholds."""
        tied: dict[str, list[fx.Node]] = {}
        for node in self.graph.nodes:
            if TIE in node.meta and node.name in self.families and self.origins[node.name] != "input":
                tied.setdefault(node.meta[TIE], []).append(node)
        for nodes in tied.values():
            self._tie(nodes)

    def _is_activation(self, node: fx.Node) -> bool:
        if self.kinds[node] in (OpKind.RECTIFIER, OpKind.RELAY):
            return True
        if self.kinds[node] is not OpKind.FUNCTION or node.name not in self.after_synapse:
            return False
        if node.meta.get(ROLE) == NORMALIZATION:
            return False
        return (
            is_leaky(node)
            or is_activation(node)
            or grid_of(node) is not None
            or any(self.kinds[user] in _LAYERS for user in node.users)
        )

    def _place_neuron(self, source: fx.Node) -> None:
        """Finds the neurons whose spikes a synapse can read at a node, or puts some there."""
        if (roots := self._spike_roots(source, through_pools=False)) is not None:
            self._tie(roots)
        elif (roots := self._spike_roots(source, through_pools=True)) is not None:
            self._tie(roots)
            self._add_site(source, "repeater", self.families[roots[0].name])
        else:
            is_input = source.name in self.after_input and source.name not in self.after_synapse
            self._add_site(source, "input" if is_input else "inserted")

    def _add_site(self, node: fx.Node, origin: Origin, family: int | None = None) -> None:
        self.families[node.name] = len(self.families) if family is None else family
        self.origins[node.name] = origin

    def _spike_roots(self, node: fx.Node, *, through_pools: bool) -> list[fx.Node] | None:
        """The rectifier neurons whose spikes reach a node unchanged (or through max-pools), or None."""
        if self.origins.get(node.name) == "activation":
            return [node]
        kind = self.kinds[node]
        carries = kind in (OpKind.LAYOUT, OpKind.CONCAT) or (through_pools and kind is OpKind.MAX_POOL)
        moved = node.args[:1] if kind is OpKind.LAYOUT else node.all_input_nodes  # an index only tells where
        sources = [source for source in moved if isinstance(source, fx.Node) and is_tensor(source)]
        if not carries or not sources:
            return None
        found = [self._spike_roots(source, through_pools=through_pools) for source in sources]
        if any(roots is None for roots in found):
            return None
        return [root for roots in found if roots is not None for root in roots]

    def _tie(self, nodes: list[fx.Node]) -> None:
        """Joins the families of sites whose spikes meet in one tensor: one threshold for all of them."""
        joined = {self.families[node.name] for node in nodes}
        if len(joined) == 1:
            return
        lowest = min(joined)
        self.families = {name: lowest if family in joined else family for name, family in self.families.items()}

    def _source_site(self, source: fx.Node) -> str:
        """The site whose spikes a synapse reads at a node."""
        if source.name in self.families:
            return source.name
        roots = self._spike_roots(source, through_pools=False)
        assert roots is not None
        return roots[0].name

    def _family_codes(self) -> dict[int, _Code]:
        """(neuron, bits, T) of each family: the general setting, or what the overrides of its readers say."""
        codes: dict[int, _Code] = {}
        general_code = (self.config.neuron, self.config.bits, self.config.T)
        told: dict[int, str] = {}
        for name, family in self.families.items():
            is_input = self.origins[name] == "input"
            codes.setdefault(family, (INPUT_NEURON, self.config.input_bits, 1) if is_input else general_code)
        if self.config.neuron == "packed":
            codes.update(self._wider_codes())
        codes.update({family: self._logarithmic(codes[family]) for family in self.attention.families})
        general = dict(codes)
        for synapse in self.synapses:
            override = self.config.override_for(layer_name(synapse))
            if override.bits is None and override.T is None and override.neuron is None:
                continue
            for source in spike_operands(synapse):
                family = self.families[self._source_site(source)]
                code = _overridden(general[family], override)
                make_code(*code, layer_name(synapse))
                if family in told and codes[family] != code:
                    raise ConfigurationError(
                        f"{told[family]} and {layer_name(synapse)} read the same spikes but are told "
                        "different neurons, bits or T: give them the same override"
                    )
                codes[family], told[family] = code, layer_name(synapse)
        return codes

    def _attention_maps(self) -> AttentionMaps:
        """The families that take the code for attention maps: none unless the settings ask for one."""
        if self.config.attention_code not in CODES:
            return AttentionMaps()
        nodes = {node.name: node for node in self.graph.nodes if node.name in self.families}
        return find_attention_maps(nodes, self.families, self._readers())

    def _readers(self) -> dict[int, list[fx.Node]]:
        """The synapses that read each family's spikes."""
        readers: dict[int, list[fx.Node]] = {}
        for synapse in self.synapses:
            for source in spike_operands(synapse):
                readers.setdefault(self.families[self._source_site(source)], []).append(synapse)
        return readers

    def _logarithmic(self, code: _Code) -> _Code:
        return CODES[self.config.attention_code], *code[1:]

    def _notes(self, codes: dict[int, _Code]) -> tuple[str, ...]:
        if self.config.attention_code not in CODES:
            return ()
        own, refused = 0, dict(self.attention.refused)
        for node in self.graph.nodes:
            family = self.families.get(node.name)
            if family in self.attention.families:
                told = codes[family][0] != CODES[self.config.attention_code]
                own += not told
                refused.update({layer_name(node): "an override names its neurons"} if told else {})
        return attention_notes(self.config.attention_code, own, refused)

    def _wider_codes(self) -> dict[int, _Code]:
        """Codes of the families that cost little: read by no synapse, or by the last layers alone."""
        read: dict[int, bool] = {}
        for synapse in self.synapses:
            for source in spike_operands(synapse):
                family = self.families[self._source_site(source)]
                read[family] = read.get(family, True) and self._is_last(synapse)
        codes: dict[int, _Code] = {}
        for name, family in self.families.items():
            if self.origins[name] != "input" and read.get(family, True):
                codes[family] = _word_code(
                    self.config, self.config.last_bits if family in read else self.config.shortcut_bits
                )
        return codes

    def _site(self, node: fx.Node, codes: dict[int, _Code], flows: dict[str, Flow]) -> Site:
        family, origin = self.families[node.name], self.origins[node.name]
        neuron, bits, T = codes[family]
        affine = self._absorbed_affine(node, flows)
        cap = node.args[1] if self.kinds[node] is OpKind.RECTIFIER and origin == "activation" else None
        grid = grid_of(node)
        return Site(
            node=node.name,
            layer=layer_name(node),
            origin=origin,
            family=family,
            bits=bits,
            T=T,
            neuron=neuron,
            affine=affine,
            cap=cap if isinstance(cap, float) else None,
            grid=None if grid is None else dataclasses.astuple(grid),
        )

    def _absorbed_affine(self, node: fx.Node, flows: dict[str, Flow]) -> str | None:
        """The scale and shift that a site's neurons take over: in front of a rectifier, or the node itself."""
        if self.kinds[node] is OpKind.RECTIFIER:
            affine = node.args[0]
        elif self.origins[node.name] == "inserted" and all(self._reads_spikes(user) for user in node.users):
            affine = node
        else:
            return None
        if not isinstance(affine, fx.Node) or affine_source(affine) is None:
            return None
        if self.kinds[affine] is not OpKind.AFFINE:
            return affine.name
        flow = flows[affine_source(affine).name]  # type: ignore[union-attr]
        return affine.name if flow.carrier is not Carrier.CURRENT or flow.axis == 1 else None

    def _reads_spikes(self, node: fx.Node) -> bool:
        """Whether a node becomes a synapse, and so reads nothing but spikes."""
        return self.kinds[node] in _LAYERS and node.name not in self.refused

    def _synapse(self, node: fx.Node, codes: dict[int, _Code]) -> SynapsePlan:
        source, *others = spike_operands(node)
        sites = [self._source_site(operand) for operand in (source, *others)]
        neuron, bits, T = codes[self.families[sites[0]]]
        reads_input = any(self.origins[site] == "input" for site in sites)
        plan = SynapsePlan(
            node=node.name,
            layer=layer_name(node),
            op=op_name(node),
            source=source.name,
            family=self.families[sites[0]],
            bits=make_code(neuron, bits, T).spike_bits,
            T=T,
            neuron=neuron,
            weight_bits=0 if others else self._weight_bits(node, reads_input=reads_input),
            macs=macs_per_sample(node),
            reads_input=reads_input,
        )
        if not others:
            return plan
        held_family = self.families[sites[1]]
        held_bits = make_code(*codes[held_family]).held_bits
        return dataclasses.replace(plan, weight_bits=held_bits, held=others[0].name, held_family=held_family)

    def _weight_bits(self, node: fx.Node, *, reads_input: bool) -> int:
        override = self.config.override_for(layer_name(node)).weight_bits
        if override is not None:
            return override
        is_outer = reads_input or self._is_last(node)
        return self.config.first_last_weight_bits if is_outer else self.config.weight_bits

    def _is_last(self, node: fx.Node) -> bool:
        """Whether no layer comes behind a synapse."""
        return node.name not in self.before_layers

    def _analog(self, flows: dict[str, Flow], absorbed: set[str]) -> Iterable[AnalogPlan]:
        for node in self.graph.nodes:
            kind = self.kinds[node]
            if kind in _SILENT_KINDS or flows[node.name].carrier is not Carrier.REAL:
                continue
            if node.name in absorbed and self._only_neurons_read(node):
                continue
            yield AnalogPlan(node.name, layer_name(node), op_name(node), self._reason(node), macs_per_sample(node))

    def _only_neurons_read(self, node: fx.Node) -> bool:
        """Whether nothing but the neurons that take an affine node over reads it."""
        is_site = self.origins.get(node.name) == "inserted"
        return is_site or all(self.origins.get(user.name) == "activation" for user in node.users)

    def _reason(self, node: fx.Node) -> str:
        if node.name in self.refused:
            return self.refused[node.name]
        if node.name not in self.after_synapse and macs_per_sample(node) == 0:
            prepares = node.name in self.after_input
            return "prepares the network's input" if prepares else "computes constants from image sizes"
        return reason_of(node, self.kinds[node], self.after_synapse)


_LAYERS = frozenset({OpKind.SYNAPSE, OpKind.PRODUCT})


def _word_code(config: ConversionConfig, word: int) -> _Code:
    """Windows of ``word`` bits in as many of the T steps as divide them, or the general ones if these are wider."""
    if config.bits * config.T >= word:
        return config.neuron, config.bits, config.T
    steps = max(steps for steps in range(1, config.T + 1) if word % steps == 0)
    return config.neuron, word // steps, steps


def narrows_synapses(config: ConversionConfig) -> bool:
    """Whether some synapse may read packed windows narrower than those of shortcuts."""
    codes = [(config.neuron, config.bits, config.T)]
    codes += [_overridden(codes[0], override) for override in config.overrides.values()]
    narrow = config.objective is not None or any(bits * T < config.shortcut_bits for _, bits, T in codes)
    return config.neuron == "packed" and narrow


def _overridden(code: _Code, override: LayerOverride) -> _Code:
    neuron, bits, T = code
    return (
        neuron if override.neuron is None else override.neuron,
        bits if override.bits is None else override.bits,
        T if override.T is None else override.T,
    )


def _check_overrides(config: ConversionConfig, layers: list[str]) -> None:
    for pattern in config.overrides:
        if not any(matches(pattern, layer) for layer in layers):
            near = difflib.get_close_matches(pattern, layers, n=3, cutoff=0.4)
            hint = f"; near matches: {', '.join(near)}" if near else ""
            raise ConfigurationError(f"override {pattern!r} matches no convolution or linear layer{hint}")
