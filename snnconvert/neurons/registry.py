"""The registry of spike codes: a name such as "if" or "lif:leak=0.9" stands for one."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from typing import Any, TypeVar

from snnconvert import neurons
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import BASE_FIELDS, SpikeCode

_CODES: dict[str, type[SpikeCode]] = {}
_Code = TypeVar("_Code", bound=type[SpikeCode])


def register(code: _Code) -> _Code:
    """Makes a code known by its name; use as a decorator of the class.

    Raises:
        ValueError: if another code has the name.
    """
    if _CODES.get(code.name, code).__qualname__ != code.__qualname__:
        raise ValueError(f"two spike codes are called {code.name!r}")
    _CODES[code.name] = code
    return code


def neuron_names() -> tuple[str, ...]:
    """The names of all codes: every module of this package is asked for its own."""
    for module in pkgutil.iter_modules(neurons.__path__):
        importlib.import_module(f"{neurons.__name__}.{module.name}")
    return tuple(_CODES)


def readable_neuron_names() -> tuple[str, ...]:
    """The names of the codes that synapses with weights can read, because their spikes add up."""
    return tuple(name for name in neuron_names() if _CODES[name].adds_up)


def make_code(neuron: str, bits: int, T: int, where: str = "") -> SpikeCode:
    """The code a text such as "packed" or "if:reset=hard,v0=0" stands for.

    Args:
        neuron: its name, and after a colon its own settings.
        bits: spike bits b.
        T: time steps.
        where: the layer or option it belongs to, for messages.

    Raises:
        ConfigurationError: on an unknown name or setting, or values it can't have.
    """
    place = f"{where}: " if where else ""
    if not isinstance(neuron, str):
        raise ConfigurationError(f"{place}neuron must be a name, got {neuron!r}")
    name, _, settings = neuron.partition(":")
    known = tuple(_CODES) if name in _CODES else neuron_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"{place}no neuron is called {name!r} (there are {', '.join(known)}){hint}")
    code = _CODES[name]
    try:
        return code(bits=bits, T=T, **_settings(code, settings))
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}{error}") from None


def spelled(code: SpikeCode) -> str:
    """The text :func:`make_code` reads a code's kind and settings back from."""
    settings = ",".join(f"{key}={value}" for key, value in code.options().items())
    return f"{code.name}:{settings}" if settings else code.name


def _settings(code: type[SpikeCode], text: str) -> dict[str, Any]:
    own = {field.name: field for field in dataclasses.fields(code) if field.name not in BASE_FIELDS}
    settings: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in own:
            takes = f"takes {', '.join(own)}" if own else "takes no settings"
            raise ConfigurationError(f"neuron {code.name!r} {takes}; got {item!r}")
        settings[key] = _value(value) if isinstance(own[key].default, (int, float)) else value
    return settings


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
