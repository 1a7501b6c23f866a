"""The whole curve of accuracy against bit budget: mixed and uniform widths at each of several budgets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from snnconvert.allocation.allocate import Allocator, check_budget
from snnconvert.allocation.choices import Choices
from snnconvert.allocation.drop import Drop
from snnconvert.allocation.groups import Groups, bits_price, group_layers, solution_at
from snnconvert.allocation.problem import Problem, Solution
from snnconvert.artifact.atomic import replaced_file
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.config import ConversionConfig
from snnconvert.convert.planner import make_plan
from snnconvert.errors import ArtifactError, ConfigurationError, InputError
from snnconvert.preparation import PreparedConversion
from snnconvert.report.schema import Metric
from snnconvert.spiking_model import SpikingModel

SCHEMA = "snnconvert.pareto/1"
Kind = Literal["mixed", "uniform"]


@dataclass(frozen=True)
class ParetoPoint:
    """One conversion of the curve.

    Attributes:
        budget: the mean bit budget it may have.
        kind: "mixed": allocated layer by layer; "uniform": one width for all words, and one for all weights but
            those of the first and last layer.
        setting: b_w/b_s/T of a uniform one; "" of a mixed one.
        bit_budget: the mean bit budget it has.
        images: how many it was measured on.
        metric: accuracies, if the images have labels.
        top1_agreement: share of decisions that are the ANN's; None where several outputs may hold them.
        logit_sqnr_db: of all outputs.
        predicted_error: sum of its sensitivities.
        overrides: (T, bits, weight_bits) by layer of a mixed one.
    """

    budget: float
    kind: Kind
    setting: str
    bit_budget: float
    images: int
    metric: Metric | None
    top1_agreement: float | None
    logit_sqnr_db: float | None
    predicted_error: float
    overrides: Mapping[str, Mapping[str, int]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ParetoPoint:
        """Reads what ``dataclasses.asdict`` gives.

        Raises:
            TypeError: if a field is missing or unknown.
            KeyError: likewise.
        """
        metric = data["metric"]
        if metric is not None:
            metric = Metric.from_dict(metric)
        return cls(**{**data, "metric": metric})


class ParetoFile:
    """``pareto.json`` of a folder: grows point by point, and is always whole."""

    def __init__(self, path: Path, fingerprint: str, about: Mapping[str, Any], *, force: bool = False) -> None:
        """Continues the file of the same fingerprint, or starts one.

        Args:
            path: the file.
            fingerprint: of everything its points depend on.
            about: what else it says.
            force: replace a file of another fingerprint.

        Raises:
            InputError: if there is a file of another fingerprint, or one that can't be read, and ``force`` isn't set.
        """
        self._path, self._fingerprint, self._about = path, fingerprint, dict(about)
        self.points: list[ParetoPoint] = []
        if path.exists():
            self.points = self._read(force=force)

    def add(self, point: ParetoPoint) -> None:
        """Appends a point and writes the file."""
        self.points.append(point)
        with replaced_file(self._path) as file:
            file.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form."""
        points = [dataclasses.asdict(point) for point in self.points]
        return {"schema": SCHEMA, "fingerprint": self._fingerprint, **self._about, "points": points}

    def _read(self, *, force: bool) -> list[ParetoPoint]:
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            if data["schema"] == SCHEMA and data["fingerprint"] == self._fingerprint:
                return [ParetoPoint.from_dict(item) for item in data["points"]]
            reason = "is of another network, other settings or other images"
        except (OSError, ValueError, KeyError, TypeError):
            reason = "can't be read"
        if not force:
            raise InputError(f"{self._path} {reason}: choose another folder, or replace it with --force")
        return []


def read_pareto(path: str | Path) -> list[ParetoPoint]:
    """The points of a file.

    Raises:
        ArtifactError: if it isn't one, or is damaged.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ArtifactError(f"{path}: schema {data['schema']!r} is not {SCHEMA!r}")
        return [ParetoPoint.from_dict(item) for item in data["points"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is no file of points: {error}") from None


def fingerprint_of(prepared: PreparedConversion, statistics: Statistics, about: Mapping[str, Any]) -> str:
    """A digest of the settings, the network's weights, the calibration sample and what else is said."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([prepared.config.to_dict(), statistics.count, about], sort_keys=True).encode())
    for name, value in sorted(prepared.graph.state_dict().items()):
        digest.update(name.encode())
        _update(digest, value)
    for tensor in statistics.sample:
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: Any, value: Tensor) -> None:
    digest.update(str((value.dtype, tuple(value.shape))).encode())
    digest.update(value.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())


def trace_pareto(
    prepared: PreparedConversion,
    statistics: Statistics,
    budgets: Sequence[float],
    evaluation: Drop,
    file: ParetoFile | None = None,
    *,
    progress: bool = False,
) -> list[ParetoPoint]:
    """Measures the mixed allocation at each budget, and the uniform one of least predicted error within it.

    Calibration and sensitivities are those of one pass. Points a file already holds aren't measured again.

    Args:
        prepared: the network.
        statistics: of its calibration pass.
        budgets: mean bit budgets.
        evaluation: what compares networks on the evaluation images.
        file: where each point is written as soon as it is there.
        progress: show progress bars.

    Raises:
        ConfigurationError: if the settings name an objective of their own, or a budget can't be met.
    """
    groups = group_layers(prepared.plan, prepared.config, Choices(T=prepared.config.T))
    _check(prepared, groups, budgets)
    narrowest = min(item.bit_budget for item in uniform_allocations(prepared, groups))
    wanted: list[tuple[float, Kind]] = []
    for budget in budgets:
        wanted += [(budget, "mixed"), (budget, "uniform")] if narrowest <= budget else [(budget, "mixed")]
    points = [] if file is None else list(file.points)
    missing = [key for key in wanted if key not in {(point.budget, point.kind) for point in points}]
    tracer = _Tracer(Allocator(prepared, statistics, progress=progress), prepared, evaluation) if missing else None
    for budget, kind in missing:
        assert tracer is not None
        point = tracer.mixed(budget) if kind == "mixed" else tracer.uniform(budget)
        points.append(point)
        if file is not None:
            file.add(point)
    order = {key: index for index, key in enumerate(wanted)}
    return sorted((p for p in points if (p.budget, p.kind) in order), key=lambda p: order[p.budget, p.kind])


class _Tracer:
    def __init__(self, allocator: Allocator, prepared: PreparedConversion, evaluation: Drop) -> None:
        self._allocator, self._prepared, self._evaluation = allocator, prepared, evaluation

    def mixed(self, budget: float) -> ParetoPoint:
        model = self._allocator.within_budget(budget)
        allocation = model.report.allocation
        assert allocation is not None
        kept = allocation.rounds[allocation.chosen]
        return self._point(model, budget, "mixed", "", kept.predicted_error, allocation.overrides)

    def uniform(self, budget: float) -> ParetoPoint:
        known = uniform_allocations(self._prepared, self._allocator.groups, self._allocator.problem())
        best = min((item for item in known if item.bit_budget <= budget), key=lambda item: item.solution.error)
        model = self._allocator.convert_with(best.config)
        return self._point(model, budget, "uniform", best.setting, best.solution.error, {})

    def _point(
        self,
        model: SpikingModel,
        budget: float,
        kind: Kind,
        setting: str,
        predicted: float,
        overrides: Mapping[str, Mapping[str, int]],
    ) -> ParetoPoint:
        evaluation, labelled = self._evaluation.evaluate(model.network)
        fidelity = evaluation.fidelity("")
        return ParetoPoint(
            budget=budget,
            kind=kind,
            setting=setting,
            bit_budget=model.report.totals.bit_budget,
            images=evaluation.images,
            metric=evaluation.metric() if labelled else None,
            top1_agreement=fidelity.top1_agreement,
            logit_sqnr_db=fidelity.logit_sqnr_db,
            predicted_error=predicted,
            overrides=overrides,
        )


@dataclass(frozen=True)
class UniformAllocation:
    """One width for all words and one for all weights but those of the first and last layer."""

    config: ConversionConfig
    setting: str
    solution: Solution
    bit_budget: float


def uniform_allocations(
    prepared: PreparedConversion, groups: Groups, problem: Problem | None = None
) -> list[UniformAllocation]:
    """All uniform allocations among the choices of some groups, with the errors that a problem predicts."""
    problem = problem or groups.problem_of_costs(bits_price)
    found = []
    for weight_bits in groups.choices.weight_bits:
        for word in groups.choices.word_bits:
            bits, steps = groups.choices.split(word)
            chosen = dataclasses.replace(prepared.config, weight_bits=weight_bits, bits=bits, T=steps)
            solution = solution_at(groups, problem, make_plan(prepared.graph, chosen))
            budget = solution.cost / max(prepared.plan.spiking_macs, 1)
            found.append(UniformAllocation(chosen, f"{weight_bits}/{bits}/{steps}", solution, budget))
    return found


def _check(prepared: PreparedConversion, groups: Groups, budgets: Sequence[float]) -> None:
    objective = prepared.config.objective
    if objective is not None:
        raise ConfigurationError(f"{objective[0]} and a search exclude each other: give budgets only")
    if not budgets or not all(isinstance(b, (int, float)) and not isinstance(b, bool) and b > 0 for b in budgets):
        raise ConfigurationError(f"budgets must be positive numbers, got {list(budgets)!r}")
    for budget in budgets:
        check_budget(prepared, groups, budget)
