"""Reconstruction: block after block, the spiking network learns to give what the ANN gives on sample images.

What is minimized is the squared error of a block's outputs as the neurons behind them see it; no labels are used.
After AdaRound (Nagel et al., ICML 2020), BRECQ (Li et al., ICLR 2021) and QDrop (Wei et al., ICLR 2022). Only one
block's activations are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from tqdm import tqdm

from snnconvert.calibration.reconstruction.blocks import Block, find_blocks, source_of
from snnconvert.calibration.reconstruction.channels import channel_shapes
from snnconvert.calibration.reconstruction.runner import BlockRunner, SoftModule, Values
from snnconvert.calibration.reconstruction.soft import SoftNeuron, SoftSynapse, soft_transfer, unrounded
from snnconvert.calibration.reconstruction.stream import Stream
from snnconvert.calibration.reconstruction.trainer import Lesson, Schedule, View, error_of, train
from snnconvert.convert.insert import UNIT
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

RealWeights = Callable[[str, Synapse], Tensor]


def learn_weights(
    ann: fx.GraphModule,
    network: fx.GraphModule,
    weights: RealWeights,
    sample: Sequence[Tensor],
    images: int,
    schedule: Schedule,
    seed: int,
    *,
    progress: bool = False,
) -> None:
    """Trains a packed network's integer weights, biases and neurons' gains in place.

    Args:
        ann: the canonical graph.
        network: the spiking graph made of it.
        weights: the ANN's weights of a synapse, in counts.
        sample: the tensors of one call.
        images: how many samples they hold.
        schedule: how long and how fast.
        seed: of the order of samples and of dropped roundings.
        progress: show a progress bar on stderr if it is a terminal.
    """
    lessons = _Lessons(network, ann, weights, schedule, seed)
    with torch.no_grad():
        stream = Stream(ann, network, sample, images, schedule.batch)
    blocks = find_blocks(network, {node.name: node for node in ann.graph.nodes})
    for block in tqdm(blocks, desc="reconstructing", unit="block", disable=None if progress else True):
        with torch.no_grad():
            targets = stream.targets(block)
        learns = bool(block.synapses and targets)
        results = lessons.learn(block, stream, targets) if learns else lessons.pass_by(block, stream)
        stream.advance(block, targets, results)


class _Lessons:
    def __init__(
        self, network: fx.GraphModule, ann: fx.GraphModule, weights: RealWeights, schedule: Schedule, seed: int
    ) -> None:
        self._network, self._weights, self._schedule = network, weights, schedule
        self._nodes = {str(node.target): source_of(node) for node in network.graph.nodes if node.op == "call_module"}
        self._sources = {node.name: node for node in ann.graph.nodes}
        self._random = torch.Generator(_device_of(network)).manual_seed(seed)
        self._runner = BlockRunner(network)

    def learn(self, block: Block, stream: Stream, targets: dict[fx.Node, Tensor]) -> Values:
        """Trains one block and gives its results: with the integers it had, where the others bring it no closer."""
        before = stream.results(self._runner, block)
        lesson = Lesson(
            stream.spiking,
            stream.ideal,
            targets,
            {node: self._view(node) for node in targets},
            frozenset(stream.batched),
            stream.samples,
        )
        spreads = self._runner.spreads(block, stream.first_chunk())
        error = error_of(before, lesson)
        shapes = channel_shapes(self._network, block, self._sources)
        soft: dict[str, SoftModule] = {name: self._soft_synapse(name, spreads[name]) for name in block.synapses}
        soft.update({name: self._soft_neuron(name, shape) for name, shape in shapes.items()})
        with torch.enable_grad():
            train(self._runner, block, soft, lesson, self._schedule, error, self._random)
        for module in soft.values():
            module.settle()
        after = stream.results(self._runner, block)
        if error_of(after, lesson) < error:
            return after
        for module in soft.values():
            module.restore()
        return before

    def pass_by(self, block: Block, stream: Stream) -> Values:
        """The results of a block without anything to learn."""
        return stream.results(self._runner, block)

    def _soft_synapse(self, name: str, spread: Tensor) -> SoftSynapse:
        synapse = self._network.get_submodule(name)
        assert isinstance(synapse, Synapse)
        return SoftSynapse(synapse, self._weights(self._nodes[name], synapse), spread)

    def _soft_neuron(self, name: str, shape: tuple[int, ...]) -> SoftNeuron:
        neuron = self._network.get_submodule(name)
        assert isinstance(neuron, SpikingNeuron)
        return SoftNeuron(neuron, shape)

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


def _device_of(network: fx.GraphModule) -> torch.device:
    return next((buffer.device for buffer in network.buffers()), torch.device("cpu"))


def _rectified(neuron: SpikingNeuron) -> Callable[[Tensor], Tensor]:
    return lambda value: unrounded(neuron, value)


def _tabulated(transfer: TableTransfer) -> Callable[[Tensor], Tensor]:
    return lambda value: soft_transfer(transfer, value)
