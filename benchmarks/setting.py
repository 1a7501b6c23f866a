"""One budget b_w/b_s/T of a conversion, and the configuration that has it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnconvert.config import ConversionConfig


@dataclass(frozen=True)
class Setting:
    """One setting b_w/b_s/T."""

    weight_bits: int
    bits: int
    T: int

    def __str__(self) -> str:
        return f"{self.weight_bits}/{self.bits}/{self.T}"

    @property
    def bit_budget(self) -> int:
        """BB = T·b_w·b_s of an inner layer; those next to input and output have bits of their own."""
        return self.T * self.weight_bits * self.bits

    def config(self, fields: Mapping[str, Any]) -> ConversionConfig:
        """The configuration with this budget.

        Args:
            fields: other fields of the configuration.

        Raises:
            ConfigurationError: if a value is out of range.
        """
        return ConversionConfig(weight_bits=self.weight_bits, bits=self.bits, T=self.T, **fields)

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Reads ``b_w/b_s/T``."""
        try:
            weight_bits, bits, steps = (int(part) for part in text.split("/"))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not b_w/b_s/T, such as 8/2/4") from None
        return cls(weight_bits, bits, steps)
