"""The drop: points a converted network loses against the ANN."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, fx

from snnconvert.comparison import compare_graphs
from snnconvert.errors import ConversionError
from snnconvert.evaluation import Evaluation
from snnconvert.preparation import PreparedConversion

Leaves = tuple[Tensor, ...]
LabelledBatches = Iterable[tuple[Leaves, Tensor | None]]


class Drop:
    """Measures the drop of spiking networks on the same images.

    Accuracy lost in points if every batch has labels, else the share of decisions that aren't the ANN's.
    """

    def __init__(self, prepared: PreparedConversion, batches: Callable[[], LabelledBatches]) -> None:
        """Takes the ANN and what gives the batches, anew each time."""
        self._prepared, self._batches = prepared, batches

    def evaluate(self, network: fx.GraphModule) -> tuple[Evaluation, bool]:
        """Counts over all batches, and whether all of them have labels."""
        labelled: list[bool] = []

        def noted() -> LabelledBatches:
            for leaves, labels in self._batches():
                labelled.append(labels is not None)
                yield leaves, labels

        return compare_graphs(self._prepared, network, noted()), all(labelled)

    def of(self, network: fx.GraphModule) -> float:
        """The drop of a network in points; negative where it is better than the ANN.

        Raises:
            InputError: if there are no images.
            ConversionError: if it isn't clear which output holds the decisions.
        """
        evaluation, labelled = self.evaluate(network)
        if evaluation.agreeing is None:
            raise ConversionError("max_drop needs one output that decides: the network returns several")
        lost = evaluation.only_ann - evaluation.only_snn if labelled else evaluation.images - evaluation.agreeing
        return 100 * lost / evaluation.images
