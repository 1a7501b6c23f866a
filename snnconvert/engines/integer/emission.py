"""A graph of ONNX twins in the making: what stands for each node of the spiking graph so far."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.graph_facts import GraphFacts
from snnconvert.engines.integer.joined_words import Carried
from snnconvert.engines.integer.module_calls import call_for
from snnconvert.engines.integer.twins import Bytes, FireWords, ReadWords, Scaled, Whole
from snnconvert.neurons.neuron import SpikingNeuron

_ONE = torch.ones(())


class Emission:
    """What was written of a spiking graph.

    Attributes:
        dialect: the runtime's.
        facts: of the spiking graph.
        graph: the twins' graph.
        root: its modules and tensors by name.
        values: of each node of the spiking graph what stands for it, float32.
        fired: of each layer of neurons its bytes and how they are stored; None of logarithmic words, which are values.
        carried: bytes by node, of neurons and of what moves or joins their words as bytes.
        whole: neurons whose words stay in a kernel, as whole numbers.
    """

    def __init__(self, dialect: Dialect, facts: GraphFacts) -> None:
        """Begins an empty graph."""
        self.dialect, self.facts, self.sums = dialect, facts, facts.sums
        self.graph = fx.Graph()
        self.root: dict[str, object] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        self.fired: dict[fx.Node, tuple[fx.Node, Bytes | None]] = {}
        self.carried: dict[fx.Node, fx.Node] = {}
        self.whole: set[fx.Node] = set()

    def fire(self, stored: Bytes, *, rounds: bool = False, clips: bool = True, step: float = 1.0) -> FireWords:
        """What fires words into bytes in the dialect."""
        return FireWords(stored, clips_bytes=self.dialect.clips_bytes, rounds=rounds, clips=clips, step=step)

    def times(self, reader: fx.Node, source: fx.Node, factor: Tensor) -> fx.Node:
        """A value times a factor: words are read at that scale."""
        fired, stored = self.fired.get(source, (None, None))
        if fired is not None and stored is not None and factor.numel() == 1 and source not in self.whole:
            return self.call(reader, f"_{source.name}", ReadWords(stored, factor), fired)
        if bool((factor == 1).all()):
            return self.values[source]
        return self.call(reader, f"_{source.name}", Scaled(factor), self.values[source])

    def scaled(self, node: fx.Node, neuron: SpikingNeuron, origin: fx.Node, *, clipped: bool = False) -> fx.Node:
        """(p + β)·g of neurons' potential, which comes from an origin, each rounded as in the packed network."""
        unit, counts = self.sums.plain.get(origin, 1.0), self.values[origin]
        is_sum = self.facts.adds_whole(origin) or (clipped and self.sums.moves_words(origin))
        is_moved = self.dialect.rounds_first and origin not in self.sums.plain and is_sum
        if is_moved or self.facts.multiplies_weights(origin):
            counts = self.rounded(node, origin)
        bias = None if neuron.bias is None else neuron.bias / unit
        return self.call(node, "_scaled", Scaled(neuron.gain * unit, bias, apart=self.dialect.rounds_first), counts)

    def counts(self, node: fx.Node, origin: fx.Node) -> fx.Node:
        """The potential that a node scales, apart from what it is made of where a runtime would scale that."""
        is_moved = self.dialect.rounds_first and self.facts.adds_whole(origin)
        is_folded = self.facts.multiplies_weights(origin)
        return self.rounded(node, origin) if is_moved or is_folded else self.values[origin]

    def rounded(self, node: fx.Node, origin: fx.Node) -> fx.Node:
        """Integers that a node scales, where a runtime would work the scale into what they are made of."""
        return self.call(node, "_words", Whole(), self.values[origin])

    def note_fired(self, node: fx.Node, fired: fx.Node, stored: Bytes) -> None:
        """Remembers the bytes that a layer of neurons fires, and reads them."""
        self.fired[node] = fired, stored
        self.carried[node] = fired
        self.values[node] = self.call(node, "_read", ReadWords(stored, _ONE), fired)

    def bytes_read(self, words: fx.Node) -> tuple[fx.Node | None, Bytes | None]:
        """Words as the bytes they are, fired or joined, if they have one zero point; else None."""
        joined = self.facts.joined.carriers.get(words)
        if joined is None:
            return self.fired.get(words, (None, None))
        stored = self.stored_parts(joined)
        alike = len({int(each.zero_point) for each in stored}) == 1
        return (self.carried[words], stored[0]) if alike else (None, None)

    def stored_parts(self, carried: Carried) -> list[Bytes]:
        """How the words of each part of joined bytes are stored."""
        return [each for neuron in carried.parts if (each := self.fired[neuron][1]) is not None]

    def call(self, node: fx.Node, suffix: str, module: nn.Module, *sources: fx.Node) -> fx.Node:
        """A module's call, named after a node of the spiking graph."""
        return call_for(node, suffix, module, sources, self.graph, self.root)
