"""Two orders of the same computation: layer by layer, or tick by tick through the whole network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, fx

from snnconvert.engines.assembly import Assembly
from snnconvert.engines.integrator import Message
from snnconvert.engines.timeline import Timeline

Answer = Tensor | tuple[Tensor, ...]


def run_layers(
    network: fx.GraphModule, timeline: Timeline, assembly: Assembly, inputs: Sequence[tuple[Tensor, ...]]
) -> list[Answer]:
    """Every node runs its whole window before the next one starts; trains are dropped after their last use.

    Args:
        network: the spiking graph.
        timeline: its timeline.
        assembly: its cells, fresh.
        inputs: what enters at ticks 0, 1, …, one tensor a placeholder.

    Returns:
        The network's readout, one tensor (or a tuple, if the network returns several) a step; the last is the
        output.
    """
    uses = Counter(source for sources in assembly.sources.values() for source in sources)
    uses.update(node.name for node in _outputs(network)[0])
    sent: dict[str, dict[int, Message]] = {}
    entries = iter(range(len(inputs[0])))
    for node in network.graph.nodes:
        if node.op == "placeholder":
            index = next(entries)
            sent[node.name] = {tick: Message(tensors[index]) for tick, tensors in enumerate(inputs)}
        elif node.op == "output":
            return _read_out(network, assembly, sent)
        elif node.name in assembly.cells:
            sources = assembly.sources[node.name]
            ticks = range(*_span(timeline, (node.name, *sources)))
            sent[node.name] = assembly.cells[node.name].run(ticks, {name: sent[name] for name in sources})
            del assembly.cells[node.name]
            for source in sources:
                uses[source] -= 1
                if uses[source] == 0:
                    del sent[source]
    raise AssertionError("a graph without output")


def run_ticks(
    network: fx.GraphModule, timeline: Timeline, assembly: Assembly, inputs: Iterator[tuple[Tensor, ...]]
) -> Iterator[Answer | None]:
    """Every tick runs through the whole network; state is kept between ticks, nothing else.

    Args:
        network: the spiking graph.
        timeline: its timeline.
        assembly: its cells, fresh.
        inputs: what enters at ticks 0, 1, …, one tensor a placeholder.

    Yields:
        What the network reads out at each tick, None before the first answer.
    """
    names = [node.name for node in network.graph.nodes if node.name in assembly.cells]
    placeholders = [node.name for node in network.graph.nodes if node.op == "placeholder"]
    outputs, is_single = _outputs(network)
    latest: dict[str, Tensor] = {}
    active = {name: range(*_span(timeline, (name, *assembly.sources[name]))) for name in names}
    for tick in range(timeline.ticks):
        entering = next(inputs, None)
        now: dict[str, Message | None] = dict.fromkeys(placeholders)
        now.update(zip(placeholders, map(Message, entering or ()), strict=False))
        for name in names:
            listened = {source: now.get(source) for source in assembly.sources[name]}
            now[name] = assembly.cells[name].tick(tick, listened) if tick in active[name] else None
        arrived = {node.name: message.values for node in outputs if (message := now.get(node.name)) is not None}
        latest.update(arrived)
        values = [latest.get(node.name, assembly.static(node.name)) for node in outputs]
        known = [value for value in values if value is not None]
        spoke = bool(arrived) and len(known) == len(values)
        yield (known[0] if is_single else tuple(known)) if spoke else None


def _outputs(network: fx.GraphModule) -> tuple[list[fx.Node], bool]:
    """The nodes a network returns, and whether it is one tensor, not a tuple."""
    (output,) = [node for node in network.graph.nodes if node.op == "output"]
    returned = output.args[0]
    if isinstance(returned, (tuple, list)):
        return [node for node in returned if isinstance(node, fx.Node)], False
    assert isinstance(returned, fx.Node)
    return [returned], True


def _read_out(network: fx.GraphModule, assembly: Assembly, sent: Mapping[str, Mapping[int, Message]]) -> list[Answer]:
    """What the network says at every tick at which some output changes and all have spoken."""
    outputs, is_single = _outputs(network)
    answers: list[Answer] = []
    latest: dict[str, Tensor] = {}
    for tick in sorted({tick for node in outputs for tick in sent.get(node.name, ())}):
        latest.update({node.name: sent[node.name][tick].values for node in outputs if tick in sent.get(node.name, ())})
        values = [latest.get(node.name, assembly.static(node.name)) for node in outputs]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            answers.append(known[0] if is_single else tuple(known))
    return answers


def _span(timeline: Timeline, names: tuple[str, ...]) -> tuple[int, int]:
    """From the first tick anything arrives or leaves to the tick after the last."""
    courses = [timeline.courses[name] for name in names]
    return min(course.start for course in courses), max(course.end for course in courses)
