"""Watches a network's own forward: every synapse and every element-wise operation, with the module that does it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snnconvert.report.network.elementwise import DECISIONS, first_tensor, name_of, operations_of
from snnconvert.report.network.operators import UNREAD, Call, calls_of
from snnconvert.report.network.origins import Origins

OUTSIDE = "forward"
_OWN = ("torch.", "snnconvert.report.network.")
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass
class Frame:
    """One call of a module that is running.

    Attributes:
        name: the module's.
        operations: its own element-wise ones so far, by operator and shape of the result.
        synapses: whether any ran in it, modules inside included.
        decides: whether anything was compared or rounded in it, modules inside included, as neurons do to fire.
        inside: names of the modules that ran inside.
    """

    name: str
    operations: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    synapses: bool = False
    decides: bool = False
    inside: set[str] = field(default_factory=set)


class Listener:
    """Takes what is seen."""

    def synapse(self, call: Call, frame: Frame, shapes: Sequence[tuple[int, ...]], line: str | None) -> None:
        """A bilinear operation.

        Args:
            call: it.
            frame: the module it runs in.
            shapes: of the tensors that torch's function was called with.
            line: where in the network's own code.
        """

    def unread(self, operator: str, frame: Frame) -> None:
        """An operator that has multiply-accumulates nobody can count."""

    def module_ends(self, frame: Frame, output: Any) -> None:
        """A module's call is over."""


class _Functions(TorchFunctionMode):
    """Remembers the shapes that torch's functions were called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[tuple[int, ...]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        self.calls.append([tuple(item.shape) for item in (*args, *given.values()) if isinstance(item, Tensor)])
        try:
            return func(*args, **given)
        finally:
            self.calls.pop()


class Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator that runs, and tells a listener."""

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor], listener: Listener) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.module, self.listener = module, listener
        self.origins = Origins.of_module(module, inputs)
        self.functions = _Functions()
        self.frames = [Frame(OUTSIDE)]
        self._is_silent = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if self._is_silent:
            return func(*args, **given)
        if func.has_kernel_for_dispatch_key(_COMPOSITE) and name_of(func) not in ("linear", "_convolution"):
            with self:
                result = func.decompose(*args, **given)
            if result is not NotImplemented:
                return result
        result = func(*args, **given)
        sources = [item for item in tree_leaves((args, given)) if isinstance(item, Tensor)]
        calls = calls_of(func, args, given, result)
        if calls:
            self._synapses(calls)
        elif any(self.origins.get(item).of_input for item in sources):
            self._element_wise(func, args, given, result)
        results = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        self.origins.follow(sources, [*results, *_written(func, args, given)], synapse=bool(calls))
        return result

    def _synapses(self, calls: Sequence[Call]) -> None:
        shapes = self.functions.calls[-1] if self.functions.calls else []
        for frame in self.frames:
            frame.synapses = True
        with self._silent():
            for call in calls:
                self.listener.synapse(call, self.frames[-1], shapes, _line(self.module))

    @contextlib.contextmanager
    def _silent(self) -> Iterator[None]:
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    def _element_wise(self, func: Any, args: Sequence[Any], given: dict[str, Any], result: Any) -> None:
        name, frame, first = name_of(func), self.frames[-1], first_tensor(result)
        if name in DECISIONS:
            for running in self.frames:
                running.decides = True
        if name in UNREAD:
            self.listener.unread(name, frame)
        count = operations_of(func, args, given, result)
        if count and first is not None:
            key = name, tuple(first.shape)
            frame.operations[key] = frame.operations.get(key, 0) + count

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Follows calls of modules by hooks, which go whatever happens."""
        with contextlib.ExitStack() as stack:
            for name, module in self.module.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                stack.callback(module.register_forward_pre_hook(self._begins(name)).remove)
                stack.callback(module.register_forward_hook(self._ends, always_call=True).remove)
            yield

    def _begins(self, name: str) -> Callable[[nn.Module, Any], None]:
        def begin(_: nn.Module, __: Any) -> None:
            for frame in self.frames:
                frame.inside.add(name)
            self.frames.append(Frame(name))

        return begin

    def _ends(self, _: nn.Module, __: Any, output: Any) -> None:
        frame = self.frames.pop()
        with self._silent():
            self.listener.module_ends(frame, output)


def _written(func: Any, args: Sequence[Any], given: dict[str, Any]) -> list[Tensor]:
    """The arguments an operator writes to."""
    found = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else given.get(argument.name)
            found += [item for item in tree_leaves(value) if isinstance(item, Tensor)]
    return found


def _line(module: nn.Module) -> str | None:
    """The line of the network's own code that is running, inside its forward; None if that is all torch's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not f"{name}.".startswith(_OWN):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is module:
            return None
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
