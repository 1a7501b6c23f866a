"""Reconstruction: block after block, the spiking network learns to give what the ANN gives on sample images.

A block's integer weights, biases and thresholds are trained together, then weights and biases alone with the
thresholds settled, by the squared error of its outputs as the neurons behind them see it; no labels are used. After
BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022), with straight-through rounding in place of AdaRound's
regularizer. Only one block's activations are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from snnconvert.calibration.reconstruction.blocks import Block, find_blocks, source_of
from snnconvert.calibration.reconstruction.factors import LearnedThreshold, learned_thresholds, settle
from snnconvert.calibration.reconstruction.runner import BlockRunner, SoftBlock
from snnconvert.calibration.reconstruction.soft import SoftSynapse, soft_transfer, unrounded
from snnconvert.calibration.reconstruction.stream import Stream
from snnconvert.calibration.reconstruction.trainer import Lesson, Schedule, View, train
from snnconvert.convert.insert import UNIT
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer


def reconstruct(
    ann: fx.GraphModule,
    network: fx.GraphModule,
    sample: Sequence[Tensor],
    images: int,
    schedule: Schedule,
    seed: int,
    *,
    progress: bool = False,
) -> dict[str, float]:
    """Trains a packed spiking network in place.

    Args:
        ann: the canonical graph.
        network: the spiking graph made of it.
        sample: the tensors of one call.
        images: how many samples they hold.
        schedule: how long and how fast.
        seed: of the order of samples and of dropped roundings.
        progress: show a progress bar on stderr if it is a terminal.

    Returns:
        What each learned threshold was multiplied by, by its node in the ANN's graph.
    """
    sources = {node.name: node for node in ann.graph.nodes}
    with torch.no_grad():
        stream = Stream(ann, network, sample, images)
    school = _School(network, sources, schedule, seed)
    for block in tqdm(
        find_blocks(network, sources), desc="reconstructing", unit="block", disable=None if progress else True
    ):
        with torch.no_grad():
            targets = stream.targets(block)
        if block.synapses and targets:
            school.teach(block, stream, targets)
        stream.advance(school.runner, block, targets)
    return school.factors


class _School:
    def __init__(self, network: fx.GraphModule, sources: Mapping[str, fx.Node], schedule: Schedule, seed: int) -> None:
        self._network, self._sources, self._schedule = network, sources, schedule
        self._random = torch.Generator().manual_seed(seed)
        self.runner = BlockRunner(network)
        self.factors: dict[str, float] = {}

    def teach(self, block: Block, stream: Stream, targets: dict[fx.Node, Tensor]) -> None:
        """Trains one block and leaves its integers in the network."""
        views = {node: self._view(node) for node in targets}
        lesson = Lesson(stream.spiking, stream.ideal, targets, views, frozenset(stream.batched), stream.samples)
        spreads = self.runner.spreads(block, stream.first_chunk())
        synapses = {name: SoftSynapse(self._synapse(name), spreads[name]) for name in block.synapses}
        learned = learned_thresholds(self._network, block, self._sources)
        factors = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in learned])
        groups = {threshold.neuron: index for index, threshold in enumerate(learned)}
        share = self._schedule.threshold_share if learned else 0.0
        if learned:
            self._train(block, SoftBlock(synapses, factors, groups), lesson, share)
            self._settle(learned, factors, synapses)
        self._train(block, SoftBlock(synapses), lesson, 1 - share)
        for soft in synapses.values():
            soft.settle()

    def _train(self, block: Block, soft: SoftBlock, lesson: Lesson, share: float) -> None:
        steps = round(share * self._schedule.steps)
        if steps > 0:
            train(self.runner, block, soft, lesson, self._schedule, steps, self._random)

    def _settle(
        self, learned: list[LearnedThreshold], factors: nn.ParameterList, synapses: Mapping[str, SoftSynapse]
    ) -> None:
        for threshold, factor in zip(learned, factors, strict=True):
            neuron = self._network.get_submodule(threshold.neuron)
            assert isinstance(neuron, SpikingNeuron)
            taken = settle(neuron, float(factor.detach().exp()))
            self.factors[threshold.source] = taken
            for name in threshold.readers:
                synapses[name].rescale(taken)

    def _synapse(self, name: str) -> Synapse:
        module = self._network.get_submodule(name)
        assert isinstance(module, Synapse)
        return module

    def _view(self, node: fx.Node) -> View:
        """How the neurons behind a value see it: rectified, through their function, or as it is in the ANN's unit."""
        users = list(node.users)
        modules = [
            self._network.get_submodule(str(user.target)) if user.op == "call_module" else None for user in users
        ]
        first = modules[0] if modules else None
        if all(type(module) is type(first) for module in modules):
            if isinstance(first, SpikingNeuron) and kind_of(self._sources[source_of(users[0])]) is OpKind.RECTIFIER:
                return _rectified(first)
            if isinstance(first, TableTransfer):
                return _tabulated(first)
            if isinstance(first, LeakyTransfer):
                return first.forward
        unit = node.meta[UNIT].float()
        return lambda value: value * unit


def _rectified(neuron: SpikingNeuron) -> Callable[[Tensor], Tensor]:
    return lambda value: unrounded(neuron, value)


def _tabulated(transfer: TableTransfer) -> Callable[[Tensor], Tensor]:
    return lambda value: soft_transfer(transfer, value)
