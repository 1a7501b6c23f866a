"""Where tensors come from, followed through every operation: the network's input, or its parameters alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

_PARAMETRIZED = ".parametrizations."


@dataclass(frozen=True)
class Origin:
    """What a tensor is computed from.

    Attributes:
        of_input: whether from the network's input, its states included.
        is_input: whether no synapse lies between the input and it.
        parameters: names of the parameters and buffers it is computed from, where not from the input.
    """

    of_input: bool = False
    is_input: bool = False
    parameters: frozenset[str] = frozenset()

    def owner(self) -> str | None:
        """The module that owns the parameters; None unless there is exactly one."""
        owners = {name.split(_PARAMETRIZED)[0] if _PARAMETRIZED in name else name.rpartition(".")[0]
                  for name in self.parameters}  # fmt: skip
        return next(iter(owners)) if len(owners) == 1 else None


_UNKNOWN = Origin()


class Origins:
    """The origin of every tensor that is alive, by its storage."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[StorageWeakRef, Origin]] = {}

    @classmethod
    def of_module(cls, module: nn.Module, inputs: Iterable[Tensor]) -> Origins:
        """Those of parameters, buffers and inputs."""
        origins = cls()
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            origins.set(tensor, Origin(parameters=frozenset({name})))
        for tensor in inputs:
            origins.set(tensor, Origin(of_input=True, is_input=True))
        return origins

    def get(self, tensor: Tensor) -> Origin:
        """What is known of a tensor."""
        try:
            key = tensor.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):
            return _UNKNOWN
        found = self._known.get(key)
        if found is None or found[0].expired():  # type: ignore[no-untyped-call]
            return _UNKNOWN
        return found[1]

    def set(self, tensor: Tensor, origin: Origin) -> None:
        """Notes the origin of a tensor and of all that share its memory."""
        try:
            reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        except (NotImplementedError, RuntimeError):
            return
        self._known[reference.cdata] = (reference, origin)

    def follow(self, sources: Iterable[Tensor], results: Iterable[Tensor], *, synapse: bool) -> None:
        """Notes that results were computed from sources, by a synapse or by anything else."""
        origins = [self.get(tensor) for tensor in sources]
        of_input = any(item.of_input for item in origins)
        is_input = not synapse and of_input and all(item.is_input for item in origins if item.of_input)
        names = frozenset() if of_input else frozenset().union(*(item.parameters for item in origins))
        for tensor in results:
            before = self.get(tensor)
            if of_input or not before.of_input:
                kept = names if of_input else names | before.parameters
                self.set(tensor, Origin(of_input, is_input, kept))
