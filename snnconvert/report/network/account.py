"""The account of any spiking network: its own forward runs once, and everything it does is counted."""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from snnconvert.energy.comparison import compare_energy
from snnconvert.energy.profile import HardwareProfile, load_profile
from snnconvert.errors import InputError
from snnconvert.report.layer_account import AnalogReport, LayerAccount, totals_of, workload_of
from snnconvert.report.network.declared import declared_widths
from snnconvert.report.network.layers import layer_of, unique_names, window_steps
from snnconvert.report.network.ledger import LayerRecord, Ledger
from snnconvert.report.network.modules import ElementWise, element_wise
from snnconvert.report.network.notes import notes_on
from snnconvert.report.network.result import NetworkAccount
from snnconvert.report.network.timing import Timing, steps_inside
from snnconvert.report.network.watch import Watcher
from snnconvert.report.schema import Coverage
from snnconvert.report.versions import versions

_CONVOLUTION = "conv"
_RESETS = ("reset", "reset_mem")


def account(
    module: nn.Module,
    inputs: Tensor | Sequence[Any],
    *,
    batch_dim: int = 0,
    steps: int | None = None,
    weight_bits: int | None = None,
    hardware: str | Path | HardwareProfile = "cmos45",
    reset: Callable[[], object] | None = None,
    forward: Callable[..., object] | None = None,
) -> NetworkAccount:
    """Bit budget, effort and energy of a spiking network, measured while its own forward runs once:

        BB = T·b_w·b_s,  S-ACE = MAC·BB,  NS-ACE = rate·S-ACE

    for each layer that reads spikes, integers b_s bits wide times a scale. Whatever reads real numbers is analog, at
    full price at every step. The network isn't changed; its neurons are reset before and after. How everything is
    counted: docs/account.md.

    Args:
        module: the network in evaluation mode.
        inputs: what it is called with: one tensor, or a tuple or list of arguments. All its first tensor's images are
            averaged over.
        batch_dim: the first tensor's dimension of images: 1 in multi-step layout [T, N, ...], else 0.
        steps: time steps that the network takes at once, where it lays them out itself; None: the length of the
            dimension before ``batch_dim``, else what the rows of its layers say. A loop over time counts as calls.
        weight_bits: b_w of every layer with weights; None: as seen, 32 where weights aren't quantized.
        hardware: a profile's name, path, or itself.
        reset: called before and after; None: ``reset()``, else ``reset_mem()``, of every submodule that has it.
        forward: called with the inputs in place of the module, such as a loop over time around it.

    Raises:
        InputError: if there are no images, inputs aren't finite, the module is in training mode, or no
            multiply-accumulates could be seen; a one-line message says what to do.
        ConfigurationError: if the hardware profile is out of range.

    Source: Shen et al., "Are Conventional SNNs Really Efficient?" (CVPR 2024), arXiv 2311.10802, for BB and S-ACE.
    """  # noqa: D415
    profile = hardware if isinstance(hardware, HardwareProfile) else load_profile(hardware)
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    first = _checked(module, given, batch_dim, steps, weight_bits)
    ledger = Ledger(module)
    _watched(module, given, ledger, forward or module, reset)
    records = [record for record in ledger.layers.values() if record.of_input]
    if not records:
        hidden = f" (inside {', '.join(sorted({op for op, _ in ledger.unread_operators}))})" * bool(
            ledger.unread_operators
        )
        raise InputError(
            f"{type(module).__name__}: no convolution, linear layer or matrix product of its inputs was seen{hidden}: "
            "give the original module, neither compiled nor scripted, or the code that runs it as forward="
        )
    timing = _timing(records, first, batch_dim, steps)
    window = _most(window_steps(record, timing) for record in records)
    work = element_wise(list(ledger.modules.values()), timing, window, ledger.network)
    layers, analog = _layers(records, timing, module, weight_bits)
    is_inferred = batch_dim == 0 and steps is None and timing.steps > 1
    silent = [layer.name for layer in layers if not layer.firing_rate]
    notes = notes_on(ledger, records, timing, work, silent, is_inferred=is_inferred)
    return _result(type(module).__name__, layers, (*analog, *work.analog), work, profile, timing.images, notes)


def _result(
    name: str,
    layers: tuple[LayerAccount, ...],
    analog: tuple[AnalogReport, ...],
    work: ElementWise,
    profile: HardwareProfile,
    images: int,
    notes: tuple[str, ...],
) -> NetworkAccount:
    totals = totals_of(layers, analog, ann_operations=sum(item.operations for item in analog))
    return NetworkAccount(
        name=name,
        layers=layers,
        analog=analog,
        totals=totals,
        coverage=Coverage(1 - totals.analog_macs / totals.macs if totals.macs else 0.0),
        energy=compare_energy(workload_of(layers, analog, totals), profile),
        images=images,
        neuron_operations=work.neuron_operations,
        notes=notes,
        versions=versions(),
    )


def _layers(
    records: Sequence[LayerRecord], timing: Timing, module: nn.Module, weight_bits: int | None
) -> tuple[tuple[LayerAccount, ...], tuple[AnalogReport, ...]]:
    declared = declared_widths(module)
    found = [
        layer_of(record, name, timing, declared.get(record.name), weight_bits)
        for record, name in zip(records, unique_names(records), strict=True)
    ]
    return (
        tuple(item for item in found if isinstance(item, LayerAccount)),
        tuple(item for item in found if isinstance(item, AnalogReport)),
    )


def _checked(
    module: nn.Module, inputs: Sequence[Any], batch_dim: int, steps: int | None, weight_bits: int | None
) -> Tensor:
    """The first tensor, after all arguments were found usable."""
    tensors = [item for item in tree_leaves(inputs) if isinstance(item, Tensor)]
    if not tensors:
        raise InputError("there is no tensor among the inputs: give the images, or a tuple of the forward's arguments")
    first = tensors[0]
    if batch_dim not in (0, 1) or batch_dim >= first.dim():
        raise InputError(
            f"batch_dim must be 0, or 1 where time comes first, and a dimension of the inputs {tuple(first.shape)}: "
            f"got {batch_dim!r}"
        )
    if first.numel() == 0:
        raise InputError(f"the inputs {tuple(first.shape)} hold no images: give at least one")
    for tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError("the inputs hold values that are not finite (NaN or infinite): remove them")
    for name, value in (("steps", steps), ("weight_bits", weight_bits)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be an integer from 1 up, or None, got {value!r}")
    if module.training:
        raise InputError(f"{type(module).__name__} is in training mode, which would change it: call eval() on it first")
    return first


def _watched(
    module: nn.Module,
    inputs: Sequence[Any],
    ledger: Ledger,
    forward: Callable[..., object],
    reset: Callable[[], object] | None,
) -> None:
    tensors = [item for item in tree_leaves(inputs) if isinstance(item, Tensor)]
    watcher = Watcher(module, tensors, ledger)
    ledger.origins = watcher.origins
    restart = reset or (lambda: _reset(module))
    restart()
    try:
        with torch.no_grad(), _plain_attention(), watcher.named(), watcher.functions, watcher:
            forward(*inputs)
    finally:
        restart()
    if watcher.frames[0].operations:
        ledger.module_ends(watcher.frames[0], None)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Keeps torch's transformer layers from hiding their operations in one kernel."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _reset(module: nn.Module) -> None:
    for item in module.modules():
        functions = [getattr(item, name, None) for name in _RESETS]
        found = next((function for function in functions if callable(function) and _takes_nothing(function)), None)
        if found is not None:
            found()


def _takes_nothing(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _timing(records: Sequence[LayerRecord], first: Tensor, batch_dim: int, steps: int | None) -> Timing:
    images = first.shape[batch_dim]
    convolved = [record.shape for record in records if record.op.startswith(_CONVOLUTION)]
    others = [record.shape for record in records if not record.op.startswith(_CONVOLUTION)]
    if steps is None and batch_dim == 1:
        looped = [record for record in records if record.calls % first.shape[0] == 0]
        steps = 1 if 2 * len(looped) > len(records) else first.shape[0]
    elif steps is None:
        steps = steps_inside(convolved, others, images)
    untimed = len(convolved[0]) if convolved else 2
    images_first = batch_dim == 0 and first.dim() > untimed and first.shape[1] == steps
    return Timing(images, steps, time_first=not images_first)


def _most(values: Iterator[int]) -> int:
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))
