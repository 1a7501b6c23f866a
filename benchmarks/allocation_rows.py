"""What allocations of widths do to one trained network: uniform ones, and mixed ones of the same mean bit budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from benchmarks.network_options import stored_row
from benchmarks.row_store import Row, RowStore
from benchmarks.trained.networks import NETWORKS
from benchmarks.trained.task import Task
from snnconvert.allocation.allocate import Allocator
from snnconvert.allocation.pareto import UniformAllocation, uniform_allocations
from snnconvert.allocation.solve import least_error
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.config import ConversionConfig
from snnconvert.pareto_search import calibrated
from snnconvert.preparation import PreparedConversion
from snnconvert.spiking_model import SpikingModel

IDENTITY = ("network", "allocation", "config", "images")


@dataclass(frozen=True)
class Planned:
    """One allocation to measure.

    Attributes:
        kind: "uniform"; "first": mixed, by the sensitivities as they were measured; "kept": the best of all rounds.
        setting: b_w/b_s/T of a uniform one, or of the one whose mean bit budget a mixed one has.
        factor: what that budget is multiplied by.
    """

    kind: Literal["uniform", "first", "kept"]
    setting: str
    factor: int = 1

    def __str__(self) -> str:
        if self.kind == "uniform":
            return f"uniform {self.setting}"
        times = "" if self.factor == 1 else f"{self.factor} times "
        return f"mixed as {times}{self.setting}, {self.kind} round"


RIVALS = tuple(Planned("uniform", setting) for setting in ("4/1/4", "4/1/3", "4/1/2"))
_OTHERS = tuple(Planned("uniform", setting) for setting in ("3/1/3", "2/1/4", "5/1/3"))
KEPT = {rival: Planned("kept", rival.setting) for rival in RIVALS}
_FIRST = {rival: Planned("first", rival.setting) for rival in RIVALS}
_RICH = Planned("first", RIVALS[0].setting, 2)
RANKED = (*RIVALS, *_OTHERS, *_FIRST.values(), _RICH)
_PLANNED = (*RIVALS, *_OTHERS, *KEPT.values(), *_FIRST.values(), _RICH)

Rows = Mapping[Planned, Row]


def measured_rows(name: str, config: ConversionConfig, images: int | None, store: RowStore) -> Rows:
    """The rows of all allocations of a network; what is in the store isn't measured again.

    Args:
        name: the network's.
        config: the settings, whose own widths don't count, but T is the most time steps of a word.
        images: how many to evaluate on at most.
        store: the rows so far.

    Returns:
        The rows, up to the first that failed.
    """
    subject = Subject(name, config, images)
    rows: dict[Planned, Row] = {}
    for planned in _PLANNED:
        identity = {"network": name, "allocation": str(planned), "config": config.to_dict(), "images": images}
        rows[planned] = stored_row(store, identity, f"{name}, {planned}", partial(_measured, subject, planned, rows))
        if "error" in rows[planned]:
            break
    return rows


def _measured(subject: Subject, planned: Planned, rows: Rows) -> Row:
    if planned.kind == "uniform":
        return subject.uniform(planned.setting)
    budget = planned.factor * rows[Planned("uniform", planned.setting)]["bit_budget"]
    if planned.kind == "kept":
        return subject.kept(budget)
    kept = rows.get(Planned("kept", planned.setting, planned.factor))
    if kept is not None and kept["round"] == 1:
        return {key: value for key, value in kept.items() if key not in IDENTITY}
    return subject.first(budget)


class Subject:
    """One network; its sensitivities are measured once, when they are needed."""

    def __init__(self, name: str, config: ConversionConfig, images: int | None) -> None:
        self._network, self._config, self._images = NETWORKS[name], config, images

    def uniform(self, setting: str) -> Row:
        """The row of the uniform allocation b_w/b_s/T."""
        chosen = self._uniform[setting]
        return self._row(self._allocator.convert_with(chosen.config), chosen.solution.error, None)

    def first(self, budget: float) -> Row:
        """The row of the mixed allocation of this mean bit budget by the sensitivities as they were measured."""
        solution = least_error(self._allocator.problem(), budget * self._calibrated[0].plan.spiking_macs)
        return self._row(self._allocator.convert(solution), solution.error, 1)

    def kept(self, budget: float) -> Row:
        """The row of the mixed allocation of this mean bit budget that errs least of all rounds."""
        model = self._allocator.within_budget(budget)
        allocation = model.report.allocation
        assert allocation is not None
        predicted = allocation.rounds[allocation.chosen].predicted_error
        return self._row(model, predicted, allocation.chosen + 1)

    @cached_property
    def _task(self) -> Task:
        return self._network.task(self._images)

    @cached_property
    def _calibrated(self) -> tuple[PreparedConversion, Statistics]:
        return calibrated(self._task.ann, self._task.calibrations[0](), self._config, progress=False)

    @cached_property
    def _allocator(self) -> Allocator:
        return Allocator(*self._calibrated)

    @cached_property
    def _uniform(self) -> dict[str, UniformAllocation]:
        """Uniform allocations by their settings."""
        prepared, _ = self._calibrated
        known = uniform_allocations(prepared, self._allocator.groups, self._allocator.problem())
        return {item.setting: item for item in known}

    @property
    def _measured_on(self) -> str:
        """Which samples errors are measured on: calibration data that is held out, if there is enough of it."""
        prepared, statistics = self._calibrated
        if statistics.held_out:
            return f"{prepared.signature.batch_of(statistics.held_out)} held out"
        return f"{self._allocator.laboratory.images} fitted"

    def _row(self, model: SpikingModel, predicted: float, chosen: int | None) -> Row:
        figures = self._network.row(self._task.judge([model]))
        measured = self._allocator.measured_error(model)
        return {
            **figures,
            "predicted": predicted,
            "measured": measured,
            "measured_on": self._measured_on,
            "round": chosen,
        }
