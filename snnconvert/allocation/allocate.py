"""From sensitivities to a network: solve, convert, measure, correct the model, solve again, keep the best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.allocation.choices import Choices
from snnconvert.allocation.drop import Drop
from snnconvert.allocation.energy import EnergyPrice
from snnconvert.allocation.groups import Groups, Price, bits_price, group_layers
from snnconvert.allocation.laboratory import Laboratory
from snnconvert.allocation.problem import Problem, Solution
from snnconvert.allocation.sensitivity import Sensitivity, corrected, measured_sensitivity
from snnconvert.allocation.solve import least_error
from snnconvert.allocation.twin import floating_outputs, relative_error
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.config import ConversionConfig
from snnconvert.convert.planner import make_plan
from snnconvert.energy.twin import TwinModel
from snnconvert.engines.outputs import network_output
from snnconvert.errors import ConfigurationError
from snnconvert.finishing import finish
from snnconvert.preparation import PreparedConversion
from snnconvert.report.allocation import Allocation, AllocationRound
from snnconvert.spiking_model import SpikingModel

_BISECTIONS = 7
_ROUNDS = 4


def check_budget(prepared: PreparedConversion, groups: Groups, budget: float) -> None:
    """Refuses a mean bit budget that no allocation meets.

    Raises:
        ConfigurationError: naming the smallest.
    """
    smallest = groups.problem_of_costs(bits_price).smallest_cost / max(prepared.plan.spiking_macs, 1)
    if smallest > budget * (1 + 1e-9):
        raise ConfigurationError(
            f"budget {budget:g} can't be met: the narrowest widths have a mean bit budget of {smallest:.4g}"
        )


@dataclass(frozen=True)
class Candidate:
    """One allocation, converted and measured.

    Attributes:
        solution: the allocation.
        model: the network.
        measured: its figures.
    """

    solution: Solution
    model: SpikingModel
    measured: AllocationRound


def allocate(
    prepared: PreparedConversion,
    statistics: Statistics,
    *,
    drop: Drop | None = None,
    progress: bool = False,
    choices: Choices | None = None,
    energy: TwinModel | None = None,
) -> SpikingModel:
    """Converts a network with (T, spike bits, weight bits) of each layer chosen for the settings' objective.

    The calibration pass isn't repeated: histograms don't depend on widths.

    Args:
        prepared: the network; its settings name the objective.
        statistics: of its calibration pass.
        drop: what measures lost points, for ``max_drop``; by default on the calibration pass's sample.
        progress: show progress bars.
        choices: the widths to choose from; by default all.
        energy: the model of ``target_energy``.

    Raises:
        ConfigurationError: if there is no objective, or it can't be met, naming what can.
    """
    objective = prepared.config.objective
    if objective is None:
        raise ConfigurationError("nothing to allocate for: set budget, max_drop or target_energy")
    allocator = Allocator(prepared, statistics, progress=progress, choices=choices, energy=energy)
    name, target = objective
    if name == "budget":
        return allocator.within_budget(float(target))
    if name == "target_energy":
        return allocator.within_energy(float(target))
    return allocator.within_drop(float(target), drop or allocator.drop_on_sample())


class Allocator:
    """Sensitivities of one prepared network, and the allocations made from them.

    Attributes:
        laboratory: where they were measured.
        sensitivity: the sensitivities.
    """

    def __init__(
        self,
        prepared: PreparedConversion,
        statistics: Statistics,
        *,
        progress: bool = False,
        choices: Choices | None = None,
        energy: TwinModel | None = None,
    ) -> None:
        """Measures the sensitivities; see :func:`allocate`."""
        self._prepared, self._statistics, self._progress = prepared, statistics, progress
        self.groups = group_layers(prepared.plan, prepared.config, choices or Choices(T=prepared.config.T))
        self.laboratory = Laboratory(prepared, statistics, self.groups, progress=progress)
        self._judged, self._expected = self._held_out()
        self.sensitivity = measured_sensitivity(self.laboratory)
        self._energy = EnergyPrice(prepared.graph, prepared.plan, self.laboratory.set_bits, energy)
        self._macs = max(prepared.plan.spiking_macs, 1)

    def problem(self, sensitivity: Sensitivity | None = None, price: Price = bits_price) -> Problem:
        """The problem of these sensitivities, by default those measured at first, at a price."""
        tables = sensitivity or self.sensitivity
        return self.groups.problem(tables.words, tables.weights, price)

    def within_budget(self, budget: float) -> SpikingModel:
        """The network of least error whose mean bit budget is at most this.

        Raises:
            ConfigurationError: if even the narrowest widths need more, naming the smallest budget.
        """
        check_budget(self._prepared, self.groups, budget)
        rounds = self.candidates(lambda it: least_error(self.problem(it), budget * self._macs))
        return self._kept(rounds, min(rounds, key=lambda it: it.measured.measured_error), "budget", budget)

    def within_energy(self, energy: float) -> SpikingModel:
        """The network of least error whose synapses take at most so many microjoules per image.

        Raises:
            ConfigurationError: if even the thriftiest widths need more, naming how much, or neurons aren't packed.
        """
        smallest = self.problem(price=self._energy).smallest_cost
        if smallest > energy * (1 + 1e-9):
            raise ConfigurationError(
                f"target_energy {energy:g} can't be met: the synapses need at least {smallest:.4g} microjoules an image"
            )
        rounds = self.candidates(lambda it: least_error(self.problem(it, self._energy), energy))
        return self._kept(rounds, min(rounds, key=lambda it: it.measured.measured_error), "target_energy", energy)

    def within_drop(self, points: float, drop: Drop) -> SpikingModel:
        """The network of the smallest bit budget that was found to lose at most so many points.

        Bisects the budget on a logarithmic scale: seven conversions, after one at the widest widths.

        Raises:
            ConfigurationError: if the widest widths already lose more, naming how many.
        """
        problem = self.problem()
        widest = self._measured(least_error(problem, problem.largest_cost), drop)
        rounds = [widest]
        assert widest.measured.drop is not None
        if widest.measured.drop > points:
            raise ConfigurationError(
                f"max_drop {points:g} can't be met: the widest widths lose {widest.measured.drop:.2f} points"
            )
        low, high, best = math.log(problem.smallest_cost), math.log(widest.solution.cost), widest
        sensitivity = self.sensitivity
        for index in range(_BISECTIONS):
            middle = (low + high) / 2
            found = self._measured(least_error(self.problem(sensitivity), math.exp(middle)), drop)
            rounds.append(found)
            assert found.measured.drop is not None
            if found.measured.drop <= points:
                best = min(best, found, key=lambda it: it.solution.cost)
                high = math.log(found.solution.cost)
            else:
                low = middle
            if index == 0:
                sensitivity = corrected(self.laboratory, sensitivity, found.solution)
            if high <= low:
                break
        return self._kept(rounds, best, "max_drop", points)

    def candidates(self, solve: Callable[[Sensitivity], Solution]) -> list[Candidate]:
        """The solution of the sensitivities as measured, then of those corrected around it, while that errs less.

        At most four; the last one may err more than the one before.
        """
        found, sensitivity = [self._measured(solve(self.sensitivity))], self.sensitivity
        while len(found) < _ROUNDS and found[-1] is min(found, key=lambda it: it.measured.measured_error):
            sensitivity = corrected(self.laboratory, sensitivity, found[-1].solution)
            solution = solve(sensitivity)
            if any((solution.words, solution.weights) == (it.solution.words, it.solution.weights) for it in found):
                break
            found.append(self._measured(solution))
        return found

    def convert(self, solution: Solution, *, trained: bool = False) -> SpikingModel:
        """The network at an allocation, trained if the settings say so."""
        overrides = {**self._prepared.config.overrides, **self.groups.overrides(solution)}
        steps = self._prepared.config.reconstruction_steps if trained else 0
        config = dataclasses.replace(self._prepared.config, overrides=overrides, reconstruction_steps=steps)
        return self.convert_with(config)

    def convert_with(self, config: ConversionConfig) -> SpikingModel:
        """The network at other widths, told by the settings, from the same calibration pass."""
        plain = dataclasses.replace(config, budget=None, max_drop=None, target_energy=None)
        plan = make_plan(self._prepared.graph, plain)
        at_widths = dataclasses.replace(self._prepared, config=plain, plan=plan)
        return finish(at_widths, self._statistics, progress=self._progress)

    def measured_error(self, model: SpikingModel) -> float:
        """Relative squared error of a network's output on samples held out, else on the laboratory's."""
        return relative_error(self._expected, floating_outputs(network_output(model.network, self._judged)))

    def _held_out(self) -> tuple[list[Tensor], list[Tensor]]:
        """Samples to measure errors on, and what the ANN gives for them."""
        if not self._statistics.held_out:
            return self.laboratory.sample, self.laboratory.reference
        leaves = [tensor.to(self._prepared.device) for tensor in self._statistics.held_out]
        with torch.no_grad():
            return leaves, floating_outputs(self._prepared.graph(*leaves))

    def drop_on_sample(self) -> Drop:
        """The share of decisions that change on samples held out, or on the calibration pass's sample."""
        return Drop(self._prepared, lambda: [(self._statistics.held_out or self._statistics.sample, None)])

    def _measured(self, solution: Solution, drop: Drop | None = None) -> Candidate:
        model = self.convert(solution)
        measured = AllocationRound(
            bit_budget=model.report.totals.bit_budget,
            predicted_error=self.problem().error(solution.words, solution.weights),
            measured_error=self.measured_error(model),
            top1_agreement=model.report.fidelity.top1_agreement,
            energy_uj=self._energy_of(solution),
            drop=None if drop is None else drop.of(model.network),
        )
        return Candidate(solution, model, measured)

    def _energy_of(self, solution: Solution) -> float | None:
        try:
            return self.problem(price=self._energy).cost(solution.words, solution.weights)
        except ConfigurationError:  # neurons that aren't packed have no such energy
            return None

    def _kept(self, rounds: list[Candidate], best: Candidate, objective: str, target: float) -> SpikingModel:
        """The best network, whose settings and report say how it was found."""
        config = self._prepared.config
        model = self.convert(best.solution, trained=True) if config.reconstruction_steps else best.model
        found = self.groups.overrides(best.solution)
        told = {
            name: {key: value for key, value in dataclasses.asdict(override).items() if value is not None}
            for name, override in self.groups.by_layer(best.solution).items()
        }
        model.config = dataclasses.replace(config, overrides={**config.overrides, **found})
        measured = tuple(item.measured for item in rounds)
        allocation = Allocation(objective, target, self.laboratory.images, measured, rounds.index(best), told)
        model.report = dataclasses.replace(model.report, config=model.config.to_dict(), allocation=allocation)
        return model
