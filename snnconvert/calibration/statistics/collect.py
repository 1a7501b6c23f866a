"""The calibration pass: runs the ANN's graph once over the inputs and keeps statistics, not values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram
from snnconvert.calibration.statistics.histogram import ValueHistogram
from snnconvert.calibration.statistics.sample import ContentSample
from snnconvert.convert.signature import Signature
from snnconvert.errors import ConversionError, InputError

Leaves = tuple[Tensor, ...]


class _Recorder(fx.Interpreter):
    """Runs a graph and feeds the values of some nodes to histograms; values are freed as soon as used."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        histograms: Mapping[str, ValueHistogram],
        channels: Mapping[str, ChannelHistogram],
    ) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self._histograms, self._channels = histograms, channels

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._histograms:
            self._histograms[n.name].update(value)
        if n.name in self._channels:
            self._channels[n.name].update(value)
        return value


@dataclass(frozen=True)
class Statistics:
    """What a calibration pass has seen.

    Attributes:
        histograms: of each observed node, by its name; nodes of one group share theirs.
        sample: a fixed sample of the inputs, one tensor an input, [K, ...] of those with a batch.
        count: number of samples.
        channels: histograms of the channels of the nodes whose channels were asked for, by node name.
        training_sample: a larger sample that contains it, if one was asked for.
        held_out: samples in neither, to measure on; () if there are too few.
        sampled_from: what the sample is one of.
        notes: what the report must say about them.
    """

    histograms: dict[str, ValueHistogram]
    sample: Leaves
    count: int
    sampled_from: str = "a sample of the calibration images"
    notes: tuple[str, ...] = ()
    channels: Mapping[str, ChannelHistogram] = field(default_factory=dict)
    training_sample: Leaves = ()
    held_out: Leaves = ()


class Collector:
    """Takes the inputs of one call after the other.

    Args:
        graph_module: the canonical graph.
        signature: how the network is called.
        sites: layer name of each node to observe, by node name.
        device: where the graph lives.
        groups: the group of each node whose values are counted together; by default each alone.
        channels: the axis of the channels of each node whose channels are counted one by one, too.
        unbounded: nodes that may be infinite, as functions behind them may be finite there.
        training: whether to keep a larger sample to train on.

    Attributes:
        sample: the sample of the inputs so far.
        unbatched: the inputs without a batch, the same in every call; None before the first call.
        count: number of samples so far.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        signature: Signature,
        sites: Mapping[str, str],
        device: torch.device,
        groups: Mapping[str, int | str] | None = None,
        channels: Mapping[str, int] | None = None,
        unbounded: Collection[str] = (),
        *,
        training: bool = False,
    ) -> None:
        self._sites, self._device, self._specs, self._unbounded = sites, device, signature.tensors, unbounded
        shared: defaultdict[object, ValueHistogram] = defaultdict(ValueHistogram)
        self._histograms = {name: shared[name if groups is None else groups[name]] for name in sites}
        self._channels = {name: ChannelHistogram(axis) for name, axis in (channels or {}).items()}
        self._recorder = _Recorder(graph_module, self._histograms, self._channels)
        self._training = training
        self.sample = self.new_sample()
        self.unbatched: list[Tensor] | None = None
        self.count = 0

    def update(self, leaves: Leaves) -> None:
        """Runs the graph on the inputs of one call; a call without samples is passed over.

        Raises:
            InputError: if a shape isn't the one the graph was captured for, or an input without a batch
                isn't the same in every call.
        """
        for spec, leaf in zip(self._specs, leaves, strict=True):
            if not spec.accepts(leaf):
                where = f"{spec.name}: " if len(self._specs) > 1 else ""
                raise InputError(
                    f"{where}batch of shape {tuple(leaf.shape)} after samples of shape {_known(spec.shape)}: "
                    "one size only, or convert with dynamic_sizes"
                )
        batched = [leaf for spec, leaf in zip(self._specs, leaves, strict=True) if spec.batched]
        self.check_unbatched([leaf for spec, leaf in zip(self._specs, leaves, strict=True) if not spec.batched])
        if len(batched[0]) == 0:
            return
        with torch.no_grad():
            self._recorder.run(*(leaf.to(self._device) for leaf in leaves))
        self.sample.update(*batched)
        self.count += len(batched[0])

    @property
    def histograms(self) -> list[ValueHistogram]:
        """Each histogram once, in the order of the sites."""
        return list({id(histogram): histogram for histogram in self._histograms.values()}.values())

    def new_sample(self) -> ContentSample:
        """An empty sample of the kind it keeps."""
        return ContentSample(training=self._training)

    @property
    def channel_histograms(self) -> list[ChannelHistogram]:
        """The histograms of channels, in the order of the sites."""
        return list(self._channels.values())

    def check_unbatched(self, leaves: list[Tensor]) -> None:
        """Compares inputs without a batch with those of earlier calls.

        Raises:
            InputError: if they differ.
        """
        if self.unbatched is None:
            self.unbatched = [leaf.detach().clone() for leaf in leaves]
        names = [spec.name for spec in self._specs if not spec.batched]
        for name, first, leaf in zip(names, self.unbatched, leaves, strict=True):
            if not torch.equal(first, leaf):
                raise InputError(f"{name} has no batch dimension: it must be the same in every calibration batch")

    def statistics(self) -> Statistics:
        """All that was seen.

        Raises:
            InputError: if there was nothing.
            ConversionError: if an activation became NaN or Inf, naming its layer.
        """
        if self.count == 0:
            raise InputError("the calibration loader is empty: give it at least one batch")
        for name, histogram in self._histograms.items():
            if not histogram.finite and name not in self._unbounded:
                raise ConversionError(f"{self._sites[name]}: activations reach NaN or Inf on the calibration images")
        training = self._leaves(self.sample.tensors(training=True)) if self._training else ()
        held_out = self.sample.held_out()
        return Statistics(
            self._histograms,
            self._leaves(self.sample.tensors()),
            self.count,
            channels=self._channels,
            training_sample=training,
            held_out=self._leaves(held_out) if held_out else (),
        )

    def _leaves(self, sample: Leaves) -> Leaves:
        """The tensors of one call with these samples."""
        batched, others = iter(sample), iter(self.unbatched or ())
        return tuple(next(batched) if spec.batched else next(others) for spec in self._specs)


def _known(shape: tuple[int | None, ...]) -> str:
    inside = ", ".join("*" if size is None else str(size) for size in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"
