"""The two networks side by side, block after block: what the spiking one computes and what the ANN does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.reconstruction.blocks import Block, is_batched, source_of
from snnconvert.calibration.reconstruction.runner import BlockRunner, Values
from snnconvert.calibration.reference import Reference
from snnconvert.convert.insert import UNIT


class Stream:
    """Values at the border between two blocks, of all samples; both networks run in chunks of one size.

    Attributes:
        samples: their number, whole chunks only.
        spiking: values of the next block's inputs as the spiking network has them.
        ideal: the same as the ANN has them, in the spiking network's units.
        batched: nodes whose first dimension is the sample.
    """

    def __init__(
        self, ann: fx.GraphModule, network: fx.GraphModule, sample: Sequence[Tensor], images: int, chunk: int
    ) -> None:
        """Starts in front of the first block.

        Args:
            ann: the canonical graph.
            network: the spiking graph.
            sample: the tensors of one call.
            images: how many samples they hold.
            chunk: how many to run at once.
        """
        self._chunk = min(chunk, images)
        self.samples = images - images % self._chunk
        self._sources = {node.name: node for node in ann.graph.nodes}
        self._places = {node.name: place for place, node in enumerate(ann.graph.nodes)}
        self._passed = -1
        holders = [node for node in network.graph.nodes if node.op == "placeholder"]
        self.batched = {node for node in holders if is_batched(node, self._sources)}
        self.spiking: Values = {
            node: tensor[: self.samples] if node in self.batched else tensor
            for node, tensor in zip(holders, sample, strict=True)
        }
        self.ideal = dict(self.spiking)
        self._references = [
            Reference(ann, list(self._part(self.spiking, start).values()))
            for start in range(0, self.samples, self._chunk)
        ]

    def first_chunk(self) -> Values:
        """What the spiking network has of the first samples."""
        return self._part(self.spiking, 0)

    def targets(self, block: Block) -> dict[fx.Node, Tensor]:
        """What the ANN has where a block ends, float32 in the spiking network's units, [N, ...] each."""
        ends = [node for node in block.results if UNIT in node.meta and is_batched(node, self._sources)]
        found: dict[fx.Node, Tensor] = {}
        for node in sorted(ends, key=lambda node: self._places[source_of(node)]):
            place = self._places[source_of(node)]
            if place > self._passed:
                values = [reference.value_of(source_of(node)) for reference in self._references]
                found[node] = torch.cat([(value / node.meta[UNIT]).float() for value in values])
                self._passed = place
        return found

    def advance(self, block: Block, targets: dict[fx.Node, Tensor], results: Values) -> None:
        """Goes behind a block that gave these results."""
        self.spiking = {node: self.spiking.get(node, results.get(node)) for node in block.outputs}
        self.ideal = {
            node: self.ideal[node] if node in self.ideal else targets.get(node, results.get(node))
            for node in block.outputs
        }

    def results(self, runner: BlockRunner, block: Block) -> Values:
        """What the spiking block gives for what it sees."""
        with torch.no_grad():
            parts = [
                runner.run_block(block, self._part(self.spiking, start))
                for start in range(0, self.samples, self._chunk)
            ]
        joined: Values = {}
        for node in block.results:
            if UNIT in node.meta and is_batched(node, self._sources):
                self.batched.add(node)
                joined[node] = torch.cat([part[node] for part in parts])
            else:
                joined[node] = parts[0][node]
        return joined

    def _part(self, values: Values, start: int) -> Values:
        def cut(node: fx.Node, value: Any) -> Any:
            return value[start : start + self._chunk] if node in self.batched else value

        return {node: cut(node, value) for node, value in values.items()}
