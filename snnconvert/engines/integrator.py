"""The membrane that integrates a window: v_t = ρ_t·v_{t−1} + x_t."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnconvert.engines.course import Carrier, Course
from snnconvert.neurons.code import looked_up


class Message(NamedTuple):
    """What one edge carries at one tick.

    Attributes:
        values: [N, ...] of this step.
        constant: of a current, what enters once a window beside the steps (a bias), with the first one;
            of spikes, their resting value at this step, or once a window (``Course.rests_each_step``).
            Broadcastable to ``values``.
    """

    values: Tensor
    constant: Tensor | None = None


def as_current(message: Message, course: Course) -> Message:
    """Spikes as a current of weight one: floating point, less their resting value."""
    values, rest = message.values, message.constant
    if course.carrier is not Carrier.SPIKES:
        return message if values.is_floating_point() else Message(values.float(), rest)
    values = values.float()
    if rest is None:
        return Message(values)
    return Message(values - rest) if course.rests_each_step else Message(values, -rest.float())


class Integrator:
    """Integrates one window of messages; of running estimates it keeps the latest.

    Integers stay in the type they come in, where the synapse's proof holds; windows that are read while
    they last, and weights that aren't integers, are summed in float64.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._total: Tensor | None = None
        self._constant: Tensor | None = None
        self._type = torch.float64
        self.arrived = 0

    def add(self, message: Message) -> None:
        """Takes the next step."""
        message = as_current(message, self._course)
        self._type = message.values.dtype
        values = message.values.double() if self._course.flows or not self._course.is_integer else message.values
        if message.constant is not None:
            self._constant = message.constant.to(values.dtype)
        if self._total is None or self._course.carrier is Carrier.REAL:
            self._total = values
        else:
            growth = self._course.growth[self.arrived]
            self._total = self._total + values if growth == 1.0 else self._total * growth + values
        self.arrived += 1

    @property
    def is_complete(self) -> bool:
        """Whether the last step has arrived."""
        return self.arrived == self._course.steps

    @property
    def constant(self) -> Tensor | None:
        """What entered beside the steps."""
        return self._constant

    def share(self) -> Tensor:
        """t/T of :meth:`estimate` after t of T steps: what a rate code would have sent by now.

        Of a rate code it is the sum so far and t/T of the constant, with no rounding of integers.
        """
        assert self._total is not None
        done = self.arrived / self._course.steps
        if not self._course.extrapolates:
            return self.estimate() * done
        return self._total if self._constant is None else self._total + self._constant * done

    def estimate(self) -> Tensor:
        """The window's total as far as it is known.

        Once complete it is exact, and in the type the closed form computes in. Of spikes that number their value it is
        known only then.
        """
        assert self._total is not None
        if self._course.words:
            assert self.is_complete
            return looked_up(self._total, self._course.words)
        steps, total = self._course.steps, self._total
        if not self.is_complete and self._course.carrier is not Carrier.REAL:
            factor = steps / self.arrived if self._course.extrapolates else self._course.weights[self.arrived - 1]
            total = total * factor
        total = total if self._constant is None else total + self._constant
        return total.to(self._type) if self.is_complete and self._course.is_integer else total
