"""Exports speak of one input and one output of known sizes: anything else is refused by name."""

from __future__ import annotations

from snnconvert.errors import ConversionError
from snnconvert.spiking_model import SpikingModel


def one_tensor(snn: SpikingModel, what: str) -> tuple[int, ...]:
    """The shape of one sample of a network's only input.

    Raises:
        ConversionError: if it takes several inputs, returns several outputs, or runs at any image size.
    """
    signature = snn.signature
    spec = signature.one_input
    if spec is None or signature.result.tensors != 1:
        names = ", ".join(item.name for item in signature.tensors)
        raise ConversionError(
            f"{what} knows networks of one floating-point input and one output: this one takes {names} and returns "
            f"{signature.result}"
        )
    sizes = tuple(size for size in spec.shape if size is not None)
    if len(sizes) != len(spec.shape):
        raise ConversionError(f"{what} needs one input size: convert without dynamic_sizes")
    return sizes
