"""Options of benchmarks that set fields of the configuration."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from benchmarks.setting import Setting
from snnconvert.config import ConversionConfig


def add_field_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--set KEY=VALUE``, whose pairs of key and value make a list."""
    parser.add_argument(
        "--set",
        type=parse_field,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of ConversionConfig, its value as JSON or as text, such as weight_rounding=gptq",
    )


def parse_field(text: str) -> tuple[str, Any]:
    """Reads ``KEY=VALUE`` of a configuration; the value is JSON, or else the text itself."""
    key, separator, value = text.partition("=")
    fixed = {field.name for field in dataclasses.fields(Setting)}
    known = [field.name for field in dataclasses.fields(ConversionConfig) if field.name not in fixed]
    if key in fixed:
        raise argparse.ArgumentTypeError(f"{key} is what --settings gives")
    if not separator or key not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE with a KEY of {', '.join(known)}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def field_arguments(fields: list[tuple[str, Any]]) -> list[str]:
    """The arguments that give these fields."""
    texts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in fields]
    return [word for text in texts for word in ("--set", text)]


def positive(text: str) -> int:
    """Reads a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive integer")
    return int(text)
