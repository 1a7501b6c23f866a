"""load_onnx: a .onnx file becomes a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx.defs
from onnx import ModelProto
from torch import nn

from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx.assemble import Assembler
from snnconvert.models.onnx.batch import make_batch_dynamic
from snnconvert.models.onnx.cutting import cut, in_front_of
from snnconvert.models.onnx.declarations import OnnxInput, read_inputs, read_outputs, refuse_texts
from snnconvert.models.onnx.external import ExternalData
from snnconvert.models.onnx.flatten import Flattener, Frame
from snnconvert.models.onnx.folding import Folder
from snnconvert.models.onnx.reading import opsets_of, read_model
from snnconvert.models.onnx.survey import Survey, functions_of

_MOST_CUTS = 8


@dataclass(frozen=True)
class OnnxModel:
    """A network read from a file.

    Attributes:
        module: Takes a float32 (or integer, as declared) tensor for each input; gives one tensor, or a dict of
            tensors by name if the file has several outputs. Any batch size, evaluation mode.
        inputs: What the file declares.
        outputs: Names of the outputs.
        producer: The program that wrote the file.
        opset: The version of ONNX's own operators.
    """

    module: nn.Module
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    producer: str
    opset: int


def load_onnx(path: Path | str, outputs: Sequence[str] = ()) -> OnnxModel:
    """Reads a .onnx file and, from its own folder, its external data.

    Args:
        path: the file.
        outputs: names of values inside the network to return instead of its own outputs; what they don't
            need, such as non-maximum suppression, isn't read.

    Raises:
        InputError: if the file can't be read, breaks ONNX's rules, has no such value, or asks for more than a
            network needs.
        ConversionError: if operators are not supported (all are named), or the network doesn't run.
    """
    path = Path(path)
    model = read_model(path)
    opsets = opsets_of(model, path)
    functions = functions_of(model)
    if outputs:
        cut(model.graph, outputs, str(path))
    survey = Survey(str(path), functions)
    try:
        survey.check(model.graph.node, opsets)
    except ConversionError as error:
        way_out = _in_front(model, survey.refused(model.graph.node, opsets))
        raise ConversionError(f"{error}{way_out}{_newer(opsets)}") from None
    refuse_texts(model.graph, str(path))
    inputs, results = read_inputs(model.graph, str(path)), read_outputs(model.graph, str(path))
    external = ExternalData(path)
    flattener = Flattener(external, functions, Folder.for_file(path.stat().st_size), inputs)
    frame = Frame("", {item.name: item.name for item in inputs}, opsets)
    try:
        flattener.run_graph(model.graph, frame)
    except ConversionError as error:
        raise ConversionError(f"{error}{_in_front(model, _positions(model, flattener))}") from None
    sources = {name: _source(name, frame, path) for name in results}
    network = Assembler(flattener.constants).network(flattener.nodes, [item.name for item in inputs], sources)
    make_batch_dynamic(network, inputs)
    return OnnxModel(network.eval(), inputs, results, _producer(model), opsets.get("", 0))


def _positions(model: ModelProto, flattener: Flattener) -> set[int]:
    """Where the node is that couldn't be read."""
    return {index for index, node in enumerate(model.graph.node) if node is flattener.at or node == flattener.at}


def _in_front(model: ModelProto, refused: set[int]) -> str:
    """Where the network could be cut so that the refused nodes stay outside."""
    values = in_front_of(model.graph, refused)
    if not 0 < len(values) <= _MOST_CUTS:
        return ""
    named = ", ".join(map(repr, values))
    return f"; or convert the part in front of them: snnconvert.models.onnx.load_onnx(path, outputs=({named},))"


def _newer(opsets: dict[str, int]) -> str:
    newest = onnx.defs.onnx_opset_version()
    version = opsets.get("", 0)
    return f"; opset {version} is newer than the {newest} known here" if version > newest else ""


def _source(name: str, frame: Frame, path: Path) -> str:
    source = frame.scope.get(name)
    if source is None:
        raise InputError(f"{path}: the output '{name}' is computed by nothing: the file is damaged, export it again")
    return source


def _producer(model: ModelProto) -> str:
    return " ".join(part for part in (model.producer_name, model.producer_version) if part)[:100]
