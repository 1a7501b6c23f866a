"""Writing a converted network as NIR, the Neuromorphic Intermediate Representation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnconvert.artifact.atomic import replaced_file
from snnconvert.errors import ConversionError
from snnconvert.export.nir_forms import RATE_SETTINGS, BeyondFloat32Error, SteppedTranslator, UnrolledTranslator
from snnconvert.export.nir_nodes import nir_package
from snnconvert.export.nir_translate import Translation
from snnconvert.neurons.packed import PackedCode
from snnconvert.spiking_model import SpikingModel

_FORMS = {
    "unrolled": "one tick: every neuron of b bits is b binary neurons, most significant first",
    "steps": "T ticks of binary neurons that are reset to zero; the input is the same at every tick",
}


@dataclass(frozen=True)
class NirExport:
    """What a tool needs to run the graph as the network it came from.

    Attributes:
        form: "unrolled" (packed neurons) or "steps" (rate-coded ones).
        explanation: the form in words.
        T: ticks to run from rest.
        dtype: floating type in which the graph is exact.
        input_step: value of one count: feed z = clip(round(x / input_step), input_minimum, input_maximum).
        input_minimum: smallest count.
        input_maximum: largest count.
        neurons: nodes of each neuron layer, by the layer's name.
        output_unit: network output = output_unit·(Σ of the output over the ticks + output_constant), per channel.
        output_constant: see there.
    """

    form: str
    explanation: str
    T: int
    dtype: str
    input_step: float
    input_minimum: int
    input_maximum: int
    neurons: dict[str, list[str]]
    output_unit: list[float]
    output_constant: list[float]


def export_nir(snn: SpikingModel, path: str | Path, *, force: bool = False) -> NirExport:
    """Writes a network that NIR can say exactly: the same spikes and the same output, step by step.

    NIR knows binary integrate-and-fire neurons that are reset to zero, convolutions, linear layers and
    pools. Rate-coded networks of such neurons are written as they are ("steps"); packed networks are
    unrolled into binary neurons within one tick ("unrolled"). The returned facts are in the file's metadata,
    too, as JSON under ``snnconvert``.

    Args:
        snn: the network.
        path: the file, usually .nir (HDF5).
        force: replace a file that exists.

    Raises:
        InputError: if the nir package isn't installed, or the file exists or can't be written.
        ConversionError: naming the layer that NIR can't say, and why.
    """
    nir = nir_package()
    if _is_packed(snn):
        translation, steps = _unrolled(snn), 1
    else:
        stepped = SteppedTranslator(snn)
        translation, steps = stepped.translate(), stepped.T
    facts = _facts(snn, translation, steps)
    builder = translation.builder
    graph = nir.NIRGraph(builder.nodes, builder.edges, metadata={"snnconvert": json.dumps(asdict(facts))})
    with replaced_file(Path(path), force=force) as file:
        nir.write(str(file), graph)
    return facts


def _is_packed(snn: SpikingModel) -> bool:
    codes = [neuron.code for _, neuron in snn.neurons()]
    for layer, neuron in snn.neurons():
        if neuron.code.words:
            raise ConversionError(
                f"{layer}: NIR has no neurons whose spikes number a value in a table ({neuron.code.name}): convert "
                "with attention_code uniform"
            )
    if not codes:
        raise ConversionError(f"the network has no neurons: convert with packed neurons or {RATE_SETTINGS}")
    return all(isinstance(code, PackedCode) for code in codes)


def _unrolled(snn: SpikingModel) -> Translation:
    """In float32 where it holds all sums exactly, else in float64."""
    try:
        return UnrolledTranslator(snn, np.float32).translate()
    except BeyondFloat32Error:
        return UnrolledTranslator(snn, np.float64).translate()


def _facts(snn: SpikingModel, translation: Translation, steps: int) -> NirExport:
    _, entering = next(iter(snn.neurons()))
    form = "unrolled" if _is_packed(snn) else "steps"
    values: dict[str, Any] = {
        "output_unit": np.broadcast_to(translation.output_unit, translation.output_constant.shape).tolist(),
        "output_constant": translation.output_constant.tolist(),
    }
    return NirExport(
        form=form,
        explanation=_FORMS[form],
        T=steps,
        dtype=np.dtype(translation.builder.dtype).name,
        input_step=1.0 / float(entering.gain),
        input_minimum=int(entering.code.minimum),
        input_maximum=int(entering.ceiling),
        neurons=translation.neurons,
        **values,
    )
