"""The end of a conversion: as the settings say, or with widths allocated for their objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from snnconvert.allocation.allocate import allocate
from snnconvert.allocation.drop import Drop, LabelledBatches
from snnconvert.calibration.no_data import NoData
from snnconvert.calibration.statistics.batches import inputs_of_item, items_of, labels_of
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.calibration.statistics.distributed import is_shared
from snnconvert.conversion import Finisher
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.finishing import finish
from snnconvert.preparation import PreparedConversion
from snnconvert.spiking_model import SpikingModel


def finish_allocated(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
    """:func:`~snnconvert.finishing.finish`, with widths allocated if the settings name an objective."""
    return finish(prepared, statistics) if prepared.config.objective is None else allocate(prepared, statistics)


def finish_part(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
    """The same for one part of a model: every part keeps the mean bit budget by itself.

    Raises:
        ConfigurationError: if the settings name another objective.
    """
    if prepared.config.objective is not None and prepared.config.budget is None:
        raise ConfigurationError(f"{prepared.config.objective[0]} needs a network that is converted as a whole")
    return finish_allocated(prepared, statistics)


def finisher(
    loader: Iterable[Any] | Tensor | NoData,
    transform: Callable[[Any], Any] | None,
    validation: Iterable[Any] | Tensor | None,
    *,
    progress: bool,
) -> Finisher:
    """What finishes a conversion whose drop is measured on a loader.

    Args:
        loader: the calibration loader.
        transform: turns one of its items into inputs.
        validation: another loader to measure the drop on.
        progress: show progress bars.

    Returns:
        A function of the prepared network and its statistics. The drop is measured on ``validation``, else on
        the calibration loader, or on the calibration pass's sample if that can be read only once, is synthesized, or
        is one of several processes' shares.
    """
    source = loader if validation is None else validation

    def run(prepared: PreparedConversion, statistics: Statistics) -> SpikingModel:
        if prepared.config.objective is None:
            return finish(prepared, statistics, progress=progress)
        once = isinstance(source, Iterator)
        if once and validation is not None:
            raise InputError("the validation loader can be read only once: give a list or a DataLoader")
        if once or isinstance(source, NoData) or (validation is None and is_shared()):
            return allocate(prepared, statistics, progress=progress)
        drop = Drop(prepared, lambda: labelled_leaves(prepared, source, transform))
        return allocate(prepared, statistics, drop=drop, progress=progress)

    return run


def labelled_leaves(
    prepared: PreparedConversion, loader: Iterable[Any] | Tensor, transform: Callable[[Any], Any] | None
) -> LabelledBatches:
    """The tensors of each call of a loader, with the labels that come with them.

    Raises:
        InputError: as :func:`~snnconvert.calibration.statistics.batches.input_batches`.
    """
    for index, item in enumerate(items_of(loader)):
        inputs = inputs_of_item(item, index, transform, prepared.signature.names)
        leaves = prepared.signature.flatten(inputs.args, inputs.kwargs)
        yield leaves, labels_of(item, prepared.signature.batch_of(leaves))
