"""What an engine needs of a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from snnconvert.errors import ConfigurationError

EngineName = Literal["onnxruntime", "openvino", "torch"]
ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino", "torch")
MOST_THREADS = 1024


@dataclass(frozen=True)
class FloatOperation:
    """Work that a runtime does in floating point.

    Attributes:
        kind: the runtime's name of the operator.
        name: the layer, or the operator's name in the model.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class RuntimeOptions:
    """What the user may set.

    Attributes:
        threads: of one call; None: what the runtime thinks best.
        batch: a fixed batch size; None: any.
        lean: give memory back after each call where the runtime would keep it for the next.
    """

    threads: int | None = None
    batch: int | None = None
    lean: bool = False

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("batch", self.batch)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_THREADS:
                raise ConfigurationError(f"{name} must be an integer from 1 to {MOST_THREADS}, got {value!r}")
        if not isinstance(self.lean, bool):
            raise ConfigurationError(f"lean must be true or false, got {self.lean!r}")


class LayerWords(NamedTuple):
    """What a layer of neurons fired in a runtime.

    Attributes:
        layer: its name.
        words: int32, of the potential's shape.
    """

    layer: str
    words: Tensor


class Runtime(Protocol):
    """A model loaded into a runtime."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how it runs here."""

    def run(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The model's outputs for the tensors of one call."""

    def float_operations(self) -> tuple[FloatOperation, ...]:
        """What it computes in floating point, in its own words."""
