"""Turns what was seen of a layer into its account: windows of spikes, or multiply-accumulates of real numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from snnconvert.convert.layer_sizes import LayerSizes
from snnconvert.energy.workload import REAL_BITS
from snnconvert.report.effort import SpikeStatistics
from snnconvert.report.layer_account import AnalogReport, LayerAccount, layer_account
from snnconvert.report.network.declared import Declared
from snnconvert.report.network.integers import bits_of, bounds, common_scale
from snnconvert.report.network.ledger import LayerRecord
from snnconvert.report.network.timing import Timing


@dataclass(frozen=True)
class Train:
    """Spikes of one layer's input.

    Attributes:
        spikes: int16 [T, neurons of all images].
        bits: b_s, in two's complement if any are negative.
        levels: values a window can stand for.
        is_matched: whether the steps of a neuron are known to belong together.
    """

    spikes: Tensor
    bits: int
    levels: int
    is_matched: bool = True

    def statistics(self) -> SpikeStatistics:
        """Rates and sparsities; of unmatched steps the word sparsity that independent ones would have."""
        T, neurons = self.spikes.shape
        if not neurons:
            return SpikeStatistics(0.0, 1.0, 1.0, 0.0)
        fired = self.spikes != 0
        magnitudes = self.spikes.abs()
        ones = sum(int(((magnitudes >> bit) & 1).sum()) for bit in range(self.bits))
        rate = int(fired.sum()) / (T * neurons)
        silent = int((~fired.any(0)).sum()) / neurons if self.is_matched else (1 - rate) ** T
        return SpikeStatistics(rate, silent, 1 - ones / (T * neurons * self.bits), rate * T)


def window_steps(record: LayerRecord, timing: Timing) -> int:
    """T of a layer: its calls, times the steps that one call takes at once."""
    return record.calls * (timing.steps_of(record.shape) or 1)


def layer_of(
    record: LayerRecord, name: str, timing: Timing, declared: Declared | None, weight_bits: int | None
) -> LayerAccount | AnalogReport:
    """The account of one layer.

    Args:
        record: what was seen.
        name: unique.
        timing: of the network.
        declared: widths that its synapse declares.
        weight_bits: given by the user; None: those seen.
    """
    T, passes = window_steps(record, timing), timing.images * window_steps(record, timing)
    macs = round(record.macs / passes)
    train = train_of(record, timing, declared)
    held = _held_bits(record)
    if train is None or (record.is_product and held is None):
        return AnalogReport(name, record.op, _reason(record), macs, runs=T)
    sizes = LayerSizes(
        inputs=train.spikes.numel() // passes,
        outputs=round(record.outputs / passes),
        fan_in=record.fan_in,
        weights=record.weights,
    )
    return layer_account(
        name,
        record.op,
        macs,
        sizes,
        T=T,
        spike_bits=train.bits,
        levels=train.levels,
        weight_bits=held or _weight_bits(record, declared, weight_bits),
        statistics=train.statistics(),
        reads_input=record.reads_input,
    )


def train_of(record: LayerRecord, timing: Timing, declared: Declared | None = None) -> Train | None:
    """What a layer reads as spikes [T, neurons]; None if these are real numbers."""
    if record.reads is None:
        return None
    codes = common_scale(record.reads)
    if codes is None:
        return None
    matched = timing.steps_of(record.shape) is not None
    spikes = torch.cat([timing.by_step(part.reshape(record.shape)) for part in codes])
    if declared is not None and len(spikes) == 1:
        return Train(_words(record, timing) - declared.lowest, declared.bits, 1 << declared.bits, matched)
    low, high = bounds([spikes])
    bits = bits_of(low, high)
    most = (1 << (bits - int(low < 0))) - 1
    span = most - (0 if low >= 0 else min(low, -most))
    return Train(spikes, bits, len(spikes) * span + 1, matched)


def _words(record: LayerRecord, timing: Timing) -> Tensor:
    """The integers themselves, scales included."""
    values = [(part.codes * part.scale).round().to(torch.int16) for part in record.reads or ()]
    return torch.cat([timing.by_step(part.reshape(record.shape)) for part in values])


def _held_bits(record: LayerRecord) -> int | None:
    """Bits of the second operand's integers, a sign included; None if they are real, or there is none."""
    if not record.is_product or not record.holds:
        return None
    codes = common_scale(record.holds)
    if codes is None:
        return None
    return bits_of(*bounds(codes))


def _weight_bits(record: LayerRecord, declared: Declared | None, given: int | None) -> int | Fraction:
    if given is not None:
        return given
    if declared is not None:
        return declared.weight_bits
    return REAL_BITS if record.weight_bits is None else record.weight_bits


def _reason(record: LayerRecord) -> str:
    if record.is_product:
        sides = [side for side, values in (("first", record.reads), ("second", record.holds)) if values is None]
        return f"multiplies real numbers ({' and '.join(sides) or 'no common scale'})"
    where = " before any synapse" if record.reads_input else ""
    return f"reads real numbers{where}"


def unique_names(records: Collection[LayerRecord]) -> list[str]:
    """Names of layers, numbered where a module has several."""
    seen: dict[str, int] = {}
    found = []
    for record in records:
        seen[record.name] = seen.get(record.name, 0) + 1
        found.append(record.name if seen[record.name] == 1 else f"{record.name} #{seen[record.name]}")
    return found
