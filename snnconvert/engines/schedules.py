"""Two orders of the same computation: layer by layer, or tick by tick through the whole network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor, fx

from snnconvert.engines.assembly import Assembly
from snnconvert.engines.integrator import Message
from snnconvert.engines.timeline import Timeline


def run_layers(network: fx.GraphModule, timeline: Timeline, assembly: Assembly, inputs: list[Tensor]) -> list[Tensor]:
    """Every node runs its whole window before the next one starts; trains are dropped after their last use.

    Args:
        network: the spiking graph.
        timeline: its timeline.
        assembly: its cells, fresh.
        inputs: what enters at ticks 0, 1, …

    Returns:
        The network's readout, one tensor a step; the last is the output.
    """
    uses = Counter(source for sources in assembly.sources.values() for source in sources)
    sent: dict[str, dict[int, Message]] = {}
    for node in network.graph.nodes:
        if node.op == "placeholder":
            sent[node.name] = dict(enumerate(map(Message, inputs)))
        elif node.op == "output":
            return [message.values for message in sent[node.all_input_nodes[0].name].values()]
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
    network: fx.GraphModule, timeline: Timeline, assembly: Assembly, inputs: Iterator[Tensor]
) -> Iterator[Tensor | None]:
    """Every tick runs through the whole network; state is kept between ticks, nothing else.

    Args:
        network: the spiking graph.
        timeline: its timeline.
        assembly: its cells, fresh.
        inputs: what enters at ticks 0, 1, …

    Yields:
        What the network reads out at each tick, None before the first answer.
    """
    names = [node.name for node in network.graph.nodes if node.name in assembly.cells]
    (placeholder,) = [node.name for node in network.graph.nodes if node.op == "placeholder"]
    (output,) = [node.all_input_nodes[0].name for node in network.graph.nodes if node.op == "output"]
    active = {name: range(*_span(timeline, (name, *assembly.sources[name]))) for name in names}
    for tick in range(timeline.ticks):
        entering = next(inputs, None)
        now: dict[str, Message | None] = {placeholder: None if entering is None else Message(entering)}
        for name in names:
            listened = {source: now.get(source) for source in assembly.sources[name]}
            now[name] = assembly.cells[name].tick(tick, listened) if tick in active[name] else None
        message = now.get(output)
        yield None if message is None else message.values


def _span(timeline: Timeline, names: tuple[str, ...]) -> tuple[int, int]:
    """From the first tick anything arrives or leaves to the tick after the last."""
    courses = [timeline.courses[name] for name in names]
    return min(course.start for course in courses), max(course.end for course in courses)
