"""The cell of a product of two activations: every spike meets what the other side's spikes have added up to.

With words A_t = ρ_t·A_{t−1} + a_t and B_t likewise, A_t∘B_t = ρ_t²·A_{t−1}∘B_{t−1} + a_t∘B_t + ρ_t·A_{t−1}∘b_t:
spikes times integers, step by step, and A_T∘B_T in the end. Values of different timing meet as one complete word
and the other's spikes; where digits number their value, A_T∘B_T is formed once, when both words are complete: for
powers of two a shift of the other side's word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor, fx

from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Course, product_course
from snnconvert.engines.integrator import Integrator, Message, as_current
from snnconvert.engines.synapse_cell import SynapseWatcher, check_spikes
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT


class ProductCell(Cell):
    """A product of two activations in time."""

    def __init__(
        self,
        node: fx.Node,
        sources: tuple[str, str],
        product: Product,
        courses: tuple[Course, Course],
        watcher: SynapseWatcher | None,
    ) -> None:
        self._layer = str(node.meta.get("layer", node.name))
        self._origin = str(node.meta.get("source", node.name))
        self._sources, self._product, self._courses, self._watcher = sources, product, courses, watcher
        self._after = product_course(*courses)
        self._in_step = courses[0].is_in_step_with(courses[1])
        self._incremental = self._in_step and (courses[0].flows or courses[0].rests_each_step)
        self._wide = product.wide or product.bound > FLOAT32_EXACT
        self._integrators = [Integrator(course) for course in courses]
        self._words: list[Tensor | None] = [None, None]
        self._told: Tensor | None = None
        self._step = 0
        self._decodes = any(course.words for course in courses)
        self._held = 0 if courses[0].end <= courses[1].end else 1
        self._waiting: deque[Message] = deque()

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """The current this tick's spikes add to the product."""
        messages = [inputs[name] for name in self._sources]
        for message, course in zip(messages, self._courses, strict=True):
            if message is not None:
                self._check(message.values, course)
        if self._decodes:
            return self._decoded(tick, messages)
        if not self._incremental:
            return self._meet(tick, messages)
        left, right = messages
        if left is None or right is None:
            return None
        return self._estimated(left, right) if self._courses[0].flows else self._grown(left, right)

    def run(self, ticks: range, inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:  # type: ignore[override]
        """All ticks of a window, shown to the watcher when they are over."""
        sent = super().run(ticks, inputs)
        if self._watcher is not None:
            window = Integrator(self._after)
            for message in sent.values():
                window.add(message)
            spikes = [message.values for message in inputs[self._sources[0]].values()]
            self._watcher.multiplied(self._origin, self._product, spikes, window.estimate())
        return sent

    def _check(self, spikes: Tensor, course: Course) -> None:
        if course.spike_range is not None:
            check_spikes(self._layer, spikes, course.spike_range)

    def _grown(self, left: Message, right: Message) -> Message:
        """Integers, the largest digit first: a_t∘B_t + ρ_t·A_{t−1}∘b_t."""
        growth = self._courses[0].growth[self._step]
        new = [
            self._typed(as_current(message, course).values)
            for message, course in zip((left, right), self._courses, strict=True)
        ]
        before = [None if word is None else word * growth for word in self._words]
        words = [part if word is None else word + part for word, part in zip(before, new, strict=True)]
        current = self._multiplied(new[0], words[1])
        if before[0] is not None:
            current = current + self._multiplied(before[0], new[1])
        self._words = list(words)
        self._step += 1
        return Message(current)

    def _estimated(self, left: Message, right: Message) -> Message:
        """Rate codes: what the estimates' product tells more than before, so that it adds up to A_T∘B_T."""
        for integrator, message in zip(self._integrators, (left, right), strict=True):
            integrator.add(message)
        share = self._integrators[0].arrived / self._courses[0].steps
        estimates = [integrator.estimate().double() for integrator in self._integrators]
        told = self._multiplied(*estimates) * share
        change = told if self._told is None else told - self._told
        self._told = told
        return Message(change)

    def _decoded(self, tick: int, messages: list[Message | None]) -> Message | None:
        """Both sides' complete words, once."""
        for integrator, message in zip(self._integrators, messages, strict=True):
            if message is not None:
                integrator.add(message)
        if tick != self._after.start:
            return None
        left, right = (self._typed(integrator.estimate()) for integrator in self._integrators)
        return Message(self._multiplied(left, right))

    def _meet(self, tick: int, messages: list[Message | None]) -> Message | None:
        """One side's complete word times the other side's spikes, which wait for it if they have to."""
        held, sent = messages[self._held], messages[1 - self._held]
        if held is not None:
            self._integrators[self._held].add(held)
        if sent is not None:
            self._waiting.append(sent)
        if not self._after.start <= tick < self._after.end:
            return None
        values, constant = as_current(self._waiting.popleft(), self._courses[1 - self._held])
        word = self._typed(self._integrators[self._held].estimate())
        entering = None if constant is None else self._ordered(word, self._typed(constant).expand_as(values))
        return Message(self._ordered(word, self._typed(values)), entering)

    def _ordered(self, held: Tensor, sent: Tensor) -> Tensor:
        return self._multiplied(held, sent) if self._held == 0 else self._multiplied(sent, held)

    def _multiplied(self, left: Tensor, right: Tensor) -> Tensor:
        dtype = torch.promote_types(left.dtype, right.dtype)
        current = self._product.bilinear(left.to(dtype), right.to(dtype))
        return current * self._product.multiplier.to(current.dtype)

    def _typed(self, values: Tensor) -> Tensor:
        return values.to(torch.float64 if self._wide or values.dtype == torch.float64 else torch.float32)
