"""Dialects: how the same integers are best written down for each runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """What a runtime's 8-bit kernels want to see.

    Attributes:
        name: of the runtime.
        signed_words: words with a sign are written as signed bytes; otherwise as unsigned ones with a zero point.
        clips_bytes: words of fewer than 8 bits are clipped after rounding, as bytes; otherwise before, as floats.
        folds_sums: a neuron's gain goes into the scales of the words it adds up, so that such sums are integer
            kernels; otherwise sums are of integers, and exact in float32 whatever they are.
        rounds_first: values are rounded before they become bytes wherever the runtime would otherwise work their
            scale, the zero point or a synapse's bias into its own rounding.
        flat_tables: tables are read by vectors of indices, which may count from the end.
        fires_sides: leaky rectifiers behind synapses are two integer kernels and a sum of bytes; otherwise the runtime
            works them into the synapse's kernel.
        averages_bytes: neurons behind means over whole images fire in a kernel that averages bytes.
        fires_apart: neurons fire on each current that a concat joins, and on a synapse of their own where several read
            one: nothing wider than bytes leaves a kernel.
        fires_positions: grid positions of tables with up to 256 entries are bytes that the synapse's kernel fires.
        computes_functions: the runtime works GELU, SiLU, … into the kernel in front of neurons that fire on them.
        folds_weights: convolutions that nothing fires in the kernel of are floating point there, with weights that are
            multiplied out when the runtime loads the model.
        biased_bytes: convolutions read words whose zero point isn't the middle as unsigned bytes.
        joins_bytes: words of different zero points are joined as bytes, before they are read as numbers.
        joins_all_bytes: so are all words, since integer kernels are found only behind bytes that are read once.
        lifts_sums: sums over the second of three dimensions are written as sums over two of four.
        blocks_pixels: convolutions with strides read images of few channels in blocks.
        flat_matrices: linear layers see [rows, channels], with their bias inside the integer kernel.
    """

    name: str
    signed_words: bool
    clips_bytes: bool
    folds_sums: bool
    rounds_first: bool
    flat_matrices: bool
    flat_tables: bool
    fires_sides: bool
    averages_bytes: bool
    fires_apart: bool
    fires_positions: bool
    computes_functions: bool
    biased_bytes: bool
    folds_weights: bool
    joins_bytes: bool
    joins_all_bytes: bool
    lifts_sums: bool
    blocks_pixels: bool


ONNXRUNTIME = Dialect(
    "onnxruntime",
    signed_words=False,
    clips_bytes=True,
    folds_sums=True,
    rounds_first=False,
    flat_matrices=True,
    flat_tables=True,
    fires_sides=True,
    averages_bytes=True,
    fires_apart=True,
    fires_positions=True,
    computes_functions=False,
    biased_bytes=False,
    folds_weights=True,
    joins_bytes=False,
    joins_all_bytes=True,
    lifts_sums=False,
    blocks_pixels=True,
)
OPENVINO = Dialect(
    "openvino",
    signed_words=True,
    clips_bytes=False,
    folds_sums=False,
    rounds_first=True,
    flat_matrices=False,
    flat_tables=False,
    fires_sides=False,
    averages_bytes=False,
    fires_apart=False,
    fires_positions=False,
    computes_functions=True,
    biased_bytes=True,
    folds_weights=False,
    joins_bytes=True,
    joins_all_bytes=False,
    lifts_sums=True,
    blocks_pixels=False,
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (ONNXRUNTIME, OPENVINO)}
