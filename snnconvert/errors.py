"""The errors a user can act on: one line each, naming the cause, the place and the way out."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """An error's message on one line; its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class SnnConvertError(Exception):
    """Base of every error this package raises on purpose; the command line exits with code 2 on it."""


class InputError(SnnConvertError, ValueError):
    """An argument, a file or an image that can't be used as it is."""


class ConfigurationError(SnnConvertError, ValueError):
    """A conversion setting out of its range, or an override that matches no layer."""


class ConversionError(SnnConvertError, RuntimeError):
    """A network that can't be captured or converted, with the layer that stands in the way."""


class ArtifactError(SnnConvertError, ValueError):
    """A saved network that is damaged, incomplete or of a version this package doesn't read."""


class EngineError(SnnConvertError, RuntimeError):
    """An engine that isn't installed, can't run a network exactly, or wasn't built for an input."""
