"""Widths allocated layer by layer against uniform ones on a CIFAR-10 ResNet: ``python -m benchmarks.allocation``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from scipy.stats import kendalltau

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import emit, emit_json, emit_table, require_data
from snnconvert.allocation.allocate import Allocator
from snnconvert.allocation.drop import Drop
from snnconvert.allocation.pareto import UniformAllocation, uniform_allocations
from snnconvert.allocation.solve import least_error
from snnconvert.config import ROUNDING_METHODS
from snnconvert.conversion import collector_of
from snnconvert.preparation import prepare
from snnconvert.spiking_model import SpikingModel

_BATCH = 100
_RIVALS = ("4/1/4", "4/1/3", "4/1/2")
_OTHERS = ("3/1/3", "2/1/4", "5/1/3")
_TARGET_TAU = 0.7


@dataclass(frozen=True)
class Figures:
    """What one allocation was predicted to do, and did."""

    name: str
    bit_budget: float
    predicted: float
    measured: float
    ann: float
    snn: float
    agreement: float
    difference_ci95: tuple[float, float]


def main(arguments: list[str] | None = None) -> None:
    """Compares at equal mean bit budget, and ranks ten allocations."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    bench = _Bench(options)
    rows = [bench.uniform(name) for name in _RIVALS]
    ranked = [*rows, *(bench.uniform(name) for name in _OTHERS)]
    pairs = []
    for rival in rows:
        first, kept = bench.mixed(rival.bit_budget)
        ranked.append(first)
        pairs.append((rival, kept))
    ranked.append(bench.first_round(2 * rows[0].bit_budget))
    errors = kendalltau([row.predicted for row in ranked], [row.measured for row in ranked]).statistic
    accuracies = kendalltau([-row.predicted for row in ranked], [row.snn for row in ranked]).statistic
    _emit(ranked, pairs)
    emit(f"\nKendall tau of {len(ranked)}: predicted against measured error {errors:.2f}, accuracy {accuracies:.2f}")
    result = {
        "benchmark": "allocation",
        "rows": [vars(row) for row in ranked],
        "equal_budget": [{"uniform": vars(rival), "mixed": vars(mixed)} for rival, mixed in pairs],
        "kendall_tau_error": errors,
        "kendall_tau_accuracy": accuracies,
        "target_met": bool(errors >= _TARGET_TAU and all(mixed.snn > rival.snn for rival, mixed in pairs)),
    }
    emit_json(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.allocation", description=__doc__)
    parser.add_argument("--depth", type=int, choices=(20, 44), default=20)
    parser.add_argument("--calibration-images", type=int, default=1024)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--weight-rounding", choices=ROUNDING_METHODS, default="gptq")
    parser.add_argument("--threads", type=int, default=2)
    return parser


class _Bench:
    """One network with its sensitivities, and the test images."""

    def __init__(self, options: argparse.Namespace) -> None:
        folder = require_data("cifar10")
        ann = load_cifar_resnet(folder, options.depth)
        calibration, _ = load_cifar_images(folder, "train", options.calibration_images)
        images, labels = load_cifar_images(folder, "test", options.test_images)
        config = snnconvert.ConversionConfig(bits=1, T=4, weight_rounding=options.weight_rounding)
        self._prepared = prepare(ann, calibration[:2], config, narrow=True)
        collector = collector_of(self._prepared)
        for batch in torch.split(calibration, _BATCH):
            collector.update((batch,))
        self._allocator = Allocator(self._prepared, collector.statistics())
        emit("sensitivities measured")
        batches = [((images[i : i + _BATCH],), labels[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        self._test = Drop(self._prepared, lambda: batches)
        self._uniform: dict[str, UniformAllocation] = {
            item.setting: item
            for item in uniform_allocations(self._prepared, self._allocator.groups, self._allocator.problem())
        }

    def uniform(self, setting: str) -> Figures:
        """A uniform allocation b_w/b_s/T."""
        chosen = self._uniform[setting]
        return self._figures(f"uniform {setting}", self._allocator.convert_with(chosen.config), chosen.solution.error)

    def first_round(self, budget: float) -> Figures:
        """The mixed allocation of the sensitivities as they were measured."""
        solution = least_error(self._allocator.problem(), budget * self._prepared.plan.spiking_macs)
        return self._figures("mixed, round 1", self._allocator.convert(solution), solution.error)

    def mixed(self, budget: float) -> tuple[Figures, Figures]:
        """The mixed allocation of the first round, and the one that is kept."""
        first = self.first_round(budget)
        model = self._allocator.within_budget(budget)
        allocation = model.report.allocation
        assert allocation is not None
        if allocation.chosen == 0:
            return first, first
        kept = allocation.rounds[allocation.chosen]
        return first, self._figures(f"mixed, round {allocation.chosen + 1}", model, kept.predicted_error)

    def _figures(self, name: str, model: SpikingModel, predicted: float) -> Figures:
        evaluation, _ = self._test.evaluate(model.network)
        metric, agreement = evaluation.metric(), evaluation.fidelity("").top1_agreement
        budget = model.report.totals.bit_budget
        emit(f"{name} done: {budget:.2f} {metric.snn:.4f}")
        return Figures(
            name=name,
            bit_budget=budget,
            predicted=predicted,
            measured=evaluation.noise / evaluation.signal,
            ann=metric.ann,
            snn=metric.snn,
            agreement=agreement or 0.0,
            difference_ci95=metric.difference_ci95,
        )


def _emit(ranked: list[Figures], pairs: list[tuple[Figures, Figures]]) -> None:
    header = ("allocation", "BB", "predicted", "measured", "SNN %", "agree %", "95 % CI (points)")
    emit()
    emit_table(header, [_cells(row) for row in ranked])
    emit()
    both = [[cell for row in pair for cell in (*_cells(row)[:2], f"{100 * row.snn:.1f}")] for pair in pairs]
    emit_table(("uniform", "BB", "SNN %", "mixed", "BB", "SNN %"), both)


def _cells(row: Figures) -> list[str]:
    low, high = row.difference_ci95
    return [
        row.name,
        f"{row.bit_budget:.2f}",
        f"{row.predicted:.4f}",
        f"{row.measured:.4f}",
        f"{100 * row.snn:.1f}",
        f"{100 * row.agreement:.1f}",
        f"{100 * low:+.2f} .. {100 * high:+.2f}",
    ]


if __name__ == "__main__":
    main()
