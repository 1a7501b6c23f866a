"""Built models: a spiking network as an ONNX file, from the cache or just written, which runtimes read themselves."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxscript
import torch
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.content_cache import ContentCache, content_key
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.model_files import graph_file, write_model
from snnconvert.engines.integer.portions import macs_of_samples
from snnconvert.engines.integer.source_digest import package_digest
from snnconvert.errors import ArtifactError, EngineError
from snnconvert.version import __version__

_MACS = "macs_of_samples"


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """A model on disk. One that no cache holds is deleted with this object.

    Attributes:
        path: of the graph's file.
        macs: multiply-accumulates of one sample; 0 where samples can't be told apart in what it returns.
        from_cache: whether it was built before.
    """

    path: Path
    macs: int
    from_cache: bool


def build_model(
    network: fx.GraphModule, signature: Signature, dialect: Dialect, batch: int | None, folder: Path | None
) -> BuiltModel:
    """Takes a packed network's model from the cache, or builds it.

    Args:
        network: the spiking graph, on the CPU.
        signature: how it is called.
        dialect: of the runtime that will load it.
        batch: a fixed batch size; None: any.
        folder: the cache's; None for no cache.

    Raises:
        EngineError: naming the layer, if the runtime can't run the network exactly; or if no file can be written.
    """
    key = None if folder is None else _key(network, signature, dialect, batch)
    if folder is not None and key is not None:
        found = ContentCache(folder).find(key)
        if found is not None:
            return BuiltModel(found.path, found.facts.get(_MACS, 0), from_cache=True)
    model = integer_model(network, signature, dialect, batch=batch).model
    macs = macs_of_samples(network, signature, model)
    if folder is not None and key is not None:
        stored = ContentCache(folder).write(key, model, {_MACS: macs})
        if stored is not None:
            return BuiltModel(stored, macs, from_cache=False)
    return temporary_model(model, macs)


def temporary_model(model: onnx.ModelProto, macs: int = 0) -> BuiltModel:
    """Writes a model to files that last as long as the object returned.

    Raises:
        EngineError: if there is no room for it.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="snnconvert-"))
        built = BuiltModel(graph_file(folder), macs, from_cache=False)
        weakref.finalize(built, shutil.rmtree, folder, ignore_errors=True)
        write_model(model, folder)
    except OSError as error:
        reason = f"{error.strerror}: choose a folder for the cache, or another one for temporary files by TMPDIR"
        raise EngineError(f"the built network can't be written: {reason}") from None
    return built


def _key(network: fx.GraphModule, signature: Signature, dialect: Dialect, batch: int | None) -> str | None:
    """What a built model is found by; None for a graph with operators that have no saved form."""
    versions = (__version__, package_digest(), torch.__version__, onnx.__version__, onnxscript.__version__)
    try:
        return content_key(network, (dialect, batch, signature, *versions))
    except ArtifactError:
        return None
