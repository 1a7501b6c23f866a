"""The table of operators: one small function each, and the one place that decides which version applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from snnconvert.models.onnx.call import Call
    from snnconvert.models.onnx.node import OnnxNode
    from snnconvert.models.onnx.values import HostArray, Result

    OpFunction = Callable[[Call], Result]
    HostFunction = Callable[[Call], HostArray | list[HostArray] | None]
    Preparation = Callable[[OnnxNode, int, Tensor], Tensor]

Registered = TypeVar("Registered", bound="OpFunction")
RegisteredOnHost = TypeVar("RegisteredOnHost", bound="HostFunction")
MICROSOFT = "com.microsoft"
CLASSICAL = "ai.onnx.ml"
_SUBJECTS = (
    "activations", "arithmetic", "attention", "comparisons", "convolutions", "features", "fused_attention",
    "host_arithmetic", "host_layouts", "indexing", "layouts", "normalizations", "padding", "pooling", "products",
    "quantized", "recurrent", "reductions", "resizing", "sampling", "shapes", "sources",
)  # fmt: skip


@dataclass(frozen=True)
class OpEntry:
    """How one operator is computed from one version on.

    Attributes:
        since: The first opset it applies to.
        run: Computes the outputs from tensors.
        numbers: Positions of inputs that are read as plain numbers, never as tensors.
        weights: Names of constant inputs, by position.
        prepare: Brings a constant input into the form `run` reads; once for each tensor that is shared.
        scalars: Whether a constant of one element is read as a plain number.
    """

    since: int
    run: OpFunction
    numbers: frozenset[int] = frozenset()
    weights: Mapping[int, str] = field(default_factory=dict)
    prepare: Preparation | None = None
    scalars: bool = False


_TABLE: dict[tuple[str, str], list[OpEntry]] = {}
_HOST: dict[str, HostFunction] = {}


def onnx_op(
    name: str,
    *,
    since: int = 1,
    domain: str = "",
    numbers: tuple[int, ...] = (),
    weights: Mapping[int, str] | None = None,
    prepare: Preparation | None = None,
    scalars: bool = False,
) -> Callable[[Registered], Registered]:
    """Registers a function as one operator's form from opset `since` on."""

    def register(function: Registered) -> Registered:
        entry = OpEntry(since, function, frozenset(numbers), dict(weights or {}), prepare, scalars)
        _TABLE.setdefault((domain, name), []).append(entry)
        return function

    return register


def host_op(name: str) -> Callable[[RegisteredOnHost], RegisteredOnHost]:
    """Registers a function as one operator's form on plain numbers; it is used where no input is a tensor.

    It may give None for numbers it can't handle, which then become tensors.
    """

    def register(function: RegisteredOnHost) -> RegisteredOnHost:
        _HOST[name] = function
        return function

    return register


def find_op(domain: str, name: str, opset: int) -> OpEntry | None:
    """The form of an operator in an opset: the newest that isn't newer; None if there is none."""
    _load()
    fitting = [entry for entry in _TABLE.get((domain, name), ()) if domain or entry.since <= opset]
    return max(fitting, key=lambda entry: entry.since, default=None)


def find_host_op(domain: str, name: str) -> HostFunction | None:
    """The form of an operator on plain numbers, or None."""
    _load()
    return None if domain else _HOST.get(name)


def supported_ops() -> list[tuple[str, str]]:
    """Every (domain, operator) there is a form of."""
    _load()
    return sorted(_TABLE)


def _load() -> None:
    for subject in _SUBJECTS:
        import_module(f"snnconvert.models.onnx.ops.{subject}")


def unpack(result: Any) -> tuple[Any, ...]:
    """An operator's result as a tuple of outputs."""
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)
