"""A float network whose weights and neurons are quantized with learned widths, as the spiking one will be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.channels import Steps
from snnconvert.convert.currents import current_of_constants
from snnconvert.convert.plan import Site, SynapsePlan
from snnconvert.neurons.threshold import Threshold
from snnconvert.preparation import PreparedConversion
from snnconvert.training.learned_bits.aligned import aligned, followers
from snnconvert.training.learned_bits.budgets import Budgets, LayerWidths, budgets_of
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.layout import Layout, find_layout
from snnconvert.training.learned_bits.means import Means
from snnconvert.training.learned_bits.run import QuantizedRun
from snnconvert.training.learned_bits.site import LearnedSite, SpikeWidth
from snnconvert.training.learned_bits.starting import check_codes, fixed_width, spike_width, weight_width
from snnconvert.training.learned_bits.weight import LearnedWeight
from snnconvert.training.learned_bits.width import Width


class LearnedBitsNetwork(nn.Module):
    """The canonical graph with every synapse's weights and every site's values quantized, widths included in training.

    In training mode a step is searched anew where its rounded width has changed. In evaluation mode it gives what the
    spiking network of :func:`~snnconvert.training.learned_bits.landing.land` gives, up to the common units that
    currents count in: they make the scale of a channel's weights larger, mostly by less than one percent, and round
    biases, so that values near the middle between two levels may fire the other one.

    Packed neurons read T·b_s as bits of one word, 2^(b_s·T) levels; neurons "if" as a rate, T·(2^b_s − 1) + 1 levels,
    the reading of Yao et al. (2025). First and last layers keep the widths they are configured with.
    """

    def __init__(
        self,
        prepared: PreparedConversion,
        thresholds: Mapping[int, Threshold],
        config: LearnedBitsConfig | None = None,
    ) -> None:
        """Starts at the plan's widths, or at those the settings name.

        Args:
            prepared: the network, prepared with ``narrow=True``, so that shortcuts have neurons of their own.
            thresholds: the calibrated threshold of each family of sites.
            config: the settings.

        Raises:
            ConfigurationError: if neurons are neither packed nor "if" with soft reset, there is no width to learn, or a
                target lies above what a width can grow to.
        """
        super().__init__()
        self.config = config or LearnedBitsConfig()
        self.prepared, self.thresholds = prepared, dict(thresholds)
        check_codes(prepared.plan)
        self.layout = find_layout(prepared)
        self.graph_module = prepared.graph
        self._make_widths(self.layout)
        self._make_sites()
        self._make_weights()
        self.means = Means(self.config, self.layout, self.weight_widths, self.spike_widths)
        self._run = QuantizedRun(prepared.graph, prepared.plan, self.quantized_values, self.quantized_parameters)
        self.settled = not self.config.learn_widths
        self.renews_weights = self.renews_spikes = True
        if self.settled:
            self._fix()

    def _make_widths(self, layout: Layout) -> None:
        told = self.config
        self.weight_widths = nn.ModuleList(weight_width(group, told.initial_weight_bits) for group in layout.weights)
        self.spike_widths = nn.ModuleList(
            spike_width(self.prepared.plan, group, told.initial_spike_bits, told.initial_T) for group in layout.spikes
        )

    def _make_sites(self) -> None:
        grids = {site.family for site in self.prepared.plan.sites if site.origin == "input" or site.grid is not None}
        self.followers = followers(self.prepared.graph.graph, self.prepared.plan)
        self.sites = nn.ModuleDict()
        self.family_widths: dict[int, SpikeWidth] = {}
        for family, threshold in self.thresholds.items():
            site = LearnedSite(threshold, self.config.renewal_trials, learned=family not in grids)
            self.sites[str(family)] = site.to(self.prepared.device)
            group = self.layout.spikes[self.layout.group_of[family]]
            shared = self.spike_widths[self.layout.group_of[family]]
            assert isinstance(shared, SpikeWidth)
            self.family_widths[family] = shared if group.learned else fixed_width(threshold)

    def _make_weights(self) -> None:
        steps = Steps(self.thresholds, self.prepared.channels)
        nodes = {node.name: node for node in self.prepared.graph.graph.nodes}
        self.weights = nn.ModuleDict()
        self.width_of: dict[str, int] = {}
        shared: dict[tuple[int, str], LearnedWeight] = {}
        for index, group in enumerate(self.layout.weights):
            for item in group.items:
                pattern = steps.at(item.source, item.family) / self.thresholds[item.family].step
                key = index, str(nodes[item.node].args[1])
                if key not in shared:
                    made = LearnedWeight(self.prepared.graph, nodes[item.node], pattern, self.config.renewal_trials)
                    made.fit(self._weight_width(index).rounded)
                    shared[key] = made.to(self.prepared.device)
                self.weights[item.node], self.width_of[item.node] = shared[key], index

    def _weight_width(self, index: int) -> Width:
        width = self.weight_widths[index]
        assert isinstance(width, Width)
        return width

    def forward(self, *inputs: Any) -> Any:
        """What the canonical graph returns, one tensor or several, of the tensors of one call."""
        return self._run.run(*inputs)

    def quantized_parameters(self, node: fx.Node, item: SynapsePlan, _: Tensor) -> tuple[Tensor, Tensor]:
        """Ŵ and the bias of a synapse; what neurons subtract from their channels meets W, as in a spiking one."""
        weight, trained = self.quantized_weight(item.node), self.weight_of(item.node)
        bias = trained.real_bias()
        shifts = Steps(self.thresholds, self.prepared.channels).shifts(item.source, item.family)
        if shifts is not None:
            bias = bias + current_of_constants(node, trained.real_weight() - weight, shifts).to(bias)
        return weight, bias

    def site_of(self, family: int) -> LearnedSite:
        """The neurons of a family."""
        site = self.sites[str(family)]
        assert isinstance(site, LearnedSite)
        return site

    def weight_of(self, node: str) -> LearnedWeight:
        """The weights of a synapse, by its node's name."""
        weight = self.weights[node]
        assert isinstance(weight, LearnedWeight)
        return weight

    def quantized_weight(self, node: str) -> Tensor:
        """Ŵ of a synapse in its node's own layout; its steps are searched anew first where its width has changed."""
        if self.training:
            self._renew_weight(node)
        quantized: Tensor = self.weight_of(node)(self._weight_width(self.width_of[node]))
        return quantized

    def _renew_weight(self, node: str) -> None:
        weight, width = self.weight_of(node), self._weight_width(self.width_of[node]).rounded
        if self.renews_weights and int(weight.fitted) != width:
            weight.fit(width)

    def family_step(self, family: int) -> Tensor:
        """Δ of a family, of the largest Δ_c: a power of two from that of the neurons it comes behind."""
        step = self.site_of(family).step()
        base = self.followers.get(family)
        return step if base is None else aligned(step, self.family_step(base))

    def quantized_values(self, values: Tensor, site: Site) -> Tensor:
        """What a site's spikes stand for; its step is searched anew first where its width has changed."""
        module, width = self.site_of(site.family), self.family_widths[site.family]
        pattern, shift = self._along_channels(site, values)
        shifted = values if shift is None else values - shift
        if self.training:
            module.see(shifted, pattern)
            self._renew_site(site.family)
        cap = site.cap if site.origin == "activation" else None
        fired = module.fire(shifted, self.family_step(site.family) * pattern, width, cap)
        return fired if shift is None else fired + shift

    def _renew_site(self, family: int) -> None:
        module, width = self.site_of(family), self.family_widths[family].rounded
        if self.renews_spikes and tuple(module.fitted.tolist()) != width:
            module.fit(*width)

    def _along_channels(self, site: Site, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Δ_c/Δ and s_c, broadcastable to a site's values."""
        steps, family = Steps(self.thresholds, self.prepared.channels), site.family
        axis = steps.axis(site.node, family)
        view = [-1 if dim == axis else 1 for dim in range(values.dim())] if axis is not None else []
        pattern = torch.from_numpy(steps.at(site.node, family) / self.thresholds[family].step).to(values)
        shifts = steps.shifts(site.node, family)
        return pattern.view(view), None if shifts is None else torch.from_numpy(shifts).to(values).view(view)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What an optimizer takes: "name", "params", "lr_multiplier" and "weight_decay" of each kind of parameters.

        The multipliers are for Adam: weights are relative to their channel's root mean square, steps are logarithms.
        """
        distinct = dict.fromkeys(self.weight_of(node) for node in self.weights)
        weights = [parameter for item in distinct for parameter in (item.relative, item.bias)]
        steps = [item.log_step for item in distinct]
        sites = [self.site_of(family) for family in self.family_widths]
        steps += [site.log_step for site in sites if site.log_step.requires_grad]
        bits, times = self.means.parameters()
        kinds = (
            ("weights", weights, 1.0, 0.0),
            ("steps", steps, 2.0, 0.0),
            ("bits", bits, 20.0, 0.0),
            ("T", times, 2.0, 0.0),
        )
        return [
            {"name": name, "params": params, "lr_multiplier": rate, "weight_decay": decay}
            for name, params, rate, decay in kinds
            if params
        ]

    def penalty(self) -> Tensor:
        """p_w·|b̄_w − tar_w| + p_s·|b̄_s − tar_s| + p_T·|T̄ − tar_T|, a scalar; 0 once the widths have settled."""
        if self.settled:
            return torch.zeros((), device=self.prepared.device)
        return self.means.penalty()

    def after_step(self, progress: float) -> None:
        """Keeps widths in their ranges; ends renewals and settles the widths when it is time.

        Args:
            progress: the share of the training that is over, 0..1.
        """
        if self.settled:
            return
        for width in self.modules():
            if isinstance(width, Width) and width.is_learned:
                width.confine()
        if progress >= self.config.settle_share:
            self.settle()
        elif progress >= self.config.renewal_share:
            self.renews_weights = self.renews_weights and not self.means.weights_near()
            self.renews_spikes = self.renews_spikes and not self.means.spikes_near()

    def settle(self) -> None:
        """Fixes all widths at whole numbers with means of at most the targets; steps are searched a last time."""
        self.means.settle()
        self._fix()
        for node in self.weights:
            self._renew_weight(node)
        for family in self.family_widths:
            self._renew_site(family)

    def _fix(self) -> None:
        for width in self.modules():
            if isinstance(width, Width):
                width.settle(width.rounded)
        self.settled = self.renews_weights = self.renews_spikes = True

    def allocation(self) -> list[LayerWidths]:
        """The rounded widths of every spiking layer, in the network's order."""
        learned = {item.node: group.learned for group in self.layout.weights for item in group.items}
        return [self._layer_widths(item, learned.get(item.node, False)) for item in self.prepared.plan.synapses]

    def _layer_widths(self, item: SynapsePlan, weights_learned: bool) -> LayerWidths:
        bits, T = self.family_widths[item.family].rounded
        weight_bits = None if item.held is not None else self._weight_width(self.width_of[item.node]).rounded
        learned = weights_learned or self.layout.spikes[self.layout.group_of[item.family]].learned
        return LayerWidths(item.layer, weight_bits, bits, T, item.macs, learned)

    def budgets(self) -> Budgets:
        """Means and bit budgets at the rounded widths."""
        costs = [self._bit_budget(item) for item in self.prepared.plan.synapses]
        return budgets_of(self.means.rounded(), self.allocation(), costs)

    def _bit_budget(self, item: SynapsePlan) -> float:
        bits, T = self.family_widths[item.family].rounded
        if item.held_family is None:
            return float(bits * T * self._weight_width(self.width_of[item.node]).rounded)
        held = self.site_of(item.held_family).code_at(*self.family_widths[item.held_family].rounded)
        return float(bits * T * held.held_bits)
