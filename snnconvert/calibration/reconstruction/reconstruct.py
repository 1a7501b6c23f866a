"""Reconstruction: block after block, the spiking network learns to give what the ANN gives on sample images.

What is minimized is the squared error of a block's outputs as the neurons behind them see it; no labels are used.
First thresholds are learned, with the weights as they are; then, once units and weights are settled for these
thresholds, the integer weights and biases. After BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022), with
straight-through rounding in place of AdaRound's regularizer. Only one block's activations are held at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from snnconvert.calibration.reconstruction.blocks import Block, find_blocks, source_of
from snnconvert.calibration.reconstruction.factors import families_within, neurons_of_families
from snnconvert.calibration.reconstruction.runner import BlockRunner, SoftBlock
from snnconvert.calibration.reconstruction.soft import SoftSynapse, soft_transfer, unrounded
from snnconvert.calibration.reconstruction.stream import Stream
from snnconvert.calibration.reconstruction.trainer import Lesson, Schedule, View, train
from snnconvert.convert.insert import UNIT
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.plan import Plan
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer


def learn_thresholds(
    ann: fx.GraphModule,
    network: fx.GraphModule,
    plan: Plan,
    sample: Sequence[Tensor],
    images: int,
    schedule: Schedule,
    seed: int,
    *,
    progress: bool = False,
) -> dict[int, float]:
    """What to multiply the thresholds of a packed network by; the network stays as it is.

    Args:
        ann: the canonical graph.
        network: the spiking graph made of it.
        plan: its plan.
        sample: the tensors of one call.
        images: how many samples they hold.
        schedule: how long and how fast.
        seed: of the order of samples.
        progress: show a progress bar on stderr if it is a terminal.

    Returns:
        The factor of each family of sites whose threshold was learned.
    """
    lessons = _ThresholdLessons(network, ann, schedule, seed, neurons_of_families(network, plan))
    lessons.run(ann, sample, images, "learning thresholds", progress=progress)
    return lessons.factors


def learn_weights(
    ann: fx.GraphModule,
    network: fx.GraphModule,
    sample: Sequence[Tensor],
    images: int,
    schedule: Schedule,
    seed: int,
    *,
    progress: bool = False,
) -> None:
    """Trains a packed network's integer weights and biases in place; arguments as for :func:`learn_thresholds`."""
    lessons = _WeightLessons(network, ann, schedule, seed)
    lessons.run(ann, sample, images, "learning weights", progress=progress)


class _Lessons(ABC):
    def __init__(self, network: fx.GraphModule, ann: fx.GraphModule, schedule: Schedule, seed: int) -> None:
        self.network, self.schedule = network, schedule
        self.sources = {node.name: node for node in ann.graph.nodes}
        self.random = torch.Generator().manual_seed(seed)
        self.runner = BlockRunner(network)

    def run(self, ann: fx.GraphModule, sample: Sequence[Tensor], images: int, what: str, *, progress: bool) -> None:
        with torch.no_grad():
            stream = Stream(ann, self.network, sample, images)
        blocks = find_blocks(self.network, self.sources)
        for block in tqdm(blocks, desc=what, unit="block", disable=None if progress else True):
            with torch.no_grad():
                targets = stream.targets(block)
            trained = self.teach(block, stream, targets) if block.synapses and targets else None
            stream.advance(self.runner, block, targets, trained)

    @abstractmethod
    def teach(self, block: Block, stream: Stream, targets: dict[fx.Node, Tensor]) -> SoftBlock | None:
        """Trains one block; what of it has to run in its differentiable form from here on."""

    def train(self, block: Block, soft: SoftBlock, stream: Stream, targets: dict[fx.Node, Tensor]) -> None:
        views = {node: self._view(node) for node in targets}
        lesson = Lesson(stream.spiking, stream.ideal, targets, views, frozenset(stream.batched), stream.samples)
        train(self.runner, block, soft, lesson, self.schedule, self.random)

    def _view(self, node: fx.Node) -> View:
        """How the neurons behind a value see it: rectified, through their function, or as it is in the ANN's unit."""
        users = list(node.users)
        modules = [self.network.get_submodule(str(user.target)) if user.op == "call_module" else None for user in users]
        first = modules[0] if modules else None
        if all(type(module) is type(first) for module in modules):
            if isinstance(first, SpikingNeuron) and kind_of(self.sources[source_of(users[0])]) is OpKind.RECTIFIER:
                return _rectified(first)
            if isinstance(first, TableTransfer):
                return _tabulated(first)
            if isinstance(first, LeakyTransfer):
                return first.forward
        unit = node.meta[UNIT].float()
        return lambda value: value * unit


class _ThresholdLessons(_Lessons):
    def __init__(
        self,
        network: fx.GraphModule,
        ann: fx.GraphModule,
        schedule: Schedule,
        seed: int,
        neurons: Mapping[int, list[fx.Node]],
    ) -> None:
        super().__init__(network, ann, schedule, seed)
        self._neurons = neurons
        self.factors: dict[int, float] = {}

    def teach(self, block: Block, stream: Stream, targets: dict[fx.Node, Tensor]) -> SoftBlock | None:
        families = families_within(block, self._neurons)
        if not families:
            return None
        groups = {str(node.target): index for index, nodes in enumerate(families.values()) for node in nodes}
        factors = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in families])
        soft = SoftBlock({}, factors, groups)
        self.train(block, soft, stream, targets)
        self.factors.update({family: float(f.detach().exp()) for family, f in zip(families, factors, strict=True)})
        return soft


class _WeightLessons(_Lessons):
    def teach(self, block: Block, stream: Stream, targets: dict[fx.Node, Tensor]) -> SoftBlock | None:
        spreads = self.runner.spreads(block, stream.first_chunk())
        synapses = {name: SoftSynapse(self._synapse(name), spreads[name]) for name in block.synapses}
        self.train(block, SoftBlock(synapses), stream, targets)
        for soft in synapses.values():
            soft.settle()
        return None

    def _synapse(self, name: str) -> Synapse:
        module = self.network.get_submodule(name)
        assert isinstance(module, Synapse)
        return module


def _rectified(neuron: SpikingNeuron) -> Callable[[Tensor], Tensor]:
    return lambda value: unrounded(neuron, value)


def _tabulated(transfer: TableTransfer) -> Callable[[Tensor], Tensor]:
    return lambda value: soft_transfer(transfer, value)
