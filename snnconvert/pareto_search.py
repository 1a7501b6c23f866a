"""Search: the curve of accuracy against bit budget in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snnconvert.allocation.drop import Drop
from snnconvert.allocation.finish import labelled_leaves
from snnconvert.allocation.pareto import ParetoFile, ParetoPoint, fingerprint_of, trace_pareto
from snnconvert.calibration.statistics.batches import input_batches
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.config import ConversionConfig
from snnconvert.conversion import collector_of, with_progress
from snnconvert.convert.signature import argument_names
from snnconvert.errors import InputError
from snnconvert.preparation import PreparedConversion, prepare

FILE_NAME = "pareto.json"


def search(
    model: nn.Module,
    calib_loader: Iterable[Any] | Tensor,
    budgets: Sequence[float],
    config: ConversionConfig | None = None,
    *,
    evaluation: Iterable[Any] | Tensor | None = None,
    transform: Callable[[Any], Any] | None = None,
    out: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: bool = True,
) -> list[ParetoPoint]:
    """Converts a network at several mean bit budgets, with widths allocated layer by layer and with uniform ones.

    One calibration pass and one measurement of sensitivities serve all points.

    Args:
        model: the network.
        calib_loader: as for :func:`snnconvert.convert`.
        budgets: mean bit budgets T·b_w·b_s, weighted by multiply-accumulates.
        config: the settings; their own widths count for neither, T is the most time steps of a word.
        evaluation: batches to measure on, (input, label) pairs for accuracies, readable more than once; by
            default the calibration loader, or its sample if that can be read only once.
        transform: turns an item of either loader into inputs.
        out: folder of ``pareto.json``, written point by point; a file of the same network, settings and
            images is continued.
        about: what else the file says, and the points depend on.
        force: replace a file of others.
        progress: show progress bars.

    Raises:
        InputError: as :func:`snnconvert.convert`, or if the file is of others.
        ConversionError: as :func:`snnconvert.convert`.
        ConfigurationError: as :func:`snnconvert.convert`, or if a budget can't be met.
    """
    prepared, statistics = calibrated(model, calib_loader, config, transform, progress=progress)
    known = dict(about or {})
    file = None
    if out is not None:
        path = Path(out) / FILE_NAME
        file = ParetoFile(path, fingerprint_of(prepared, statistics, known), known, force=force)
    source = calib_loader if evaluation is None else evaluation
    once = isinstance(source, Iterator)
    if once and evaluation is not None:
        raise InputError("the evaluation loader can be read only once: give a list or a DataLoader")
    drop = Drop(prepared, lambda: [(statistics.sample, None)] if once else labelled_leaves(prepared, source, transform))
    return trace_pareto(prepared, statistics, budgets, drop, file, progress=progress)


def calibrated(
    model: nn.Module,
    loader: Iterable[Any] | Tensor,
    config: ConversionConfig | None = None,
    transform: Callable[[Any], Any] | None = None,
    *,
    progress: bool = True,
) -> tuple[PreparedConversion, Statistics]:
    """A network prepared for any allocation of widths, and the statistics of its calibration pass.

    Args:
        model: the network.
        loader: as for :func:`snnconvert.convert`.
        config: the settings.
        transform: turns an item of the loader into inputs.
        progress: show a progress bar.

    Raises:
        InputError: as :func:`snnconvert.convert`.
        ConversionError: as :func:`snnconvert.convert`.
        ConfigurationError: as :func:`snnconvert.convert`.
    """
    batches = input_batches(loader, transform, argument_names(model))
    first = next(batches, None)
    if first is None:
        raise InputError("the calibration loader is empty: give it at least one batch")
    prepared = prepare(model, first, config, narrow=True)
    collector = collector_of(prepared)
    for batch in with_progress(chain([first], batches), loader, progress):
        collector.update(prepared.signature.flatten(batch.args, batch.kwargs))
    return prepared, collector.statistics()
