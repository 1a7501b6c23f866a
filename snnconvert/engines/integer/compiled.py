"""Compiled networks: a spiking network loaded into a runtime, called like the network itself."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.built_model import BuiltModel, build_model, temporary_model
from snnconvert.engines.integer.content_cache import default_folder
from snnconvert.engines.integer.dialect import DIALECTS, Dialect
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.lowering import StoredWords
from snnconvert.engines.integer.onnxruntime_runtime import OnnxRuntime
from snnconvert.engines.integer.openvino_runtime import OpenVino, computes_functions, openvino_package
from snnconvert.engines.integer.portions import in_portions, portion_of
from snnconvert.engines.integer.runtime import ENGINES, FloatOperation, LayerWords, Runtime, RuntimeOptions
from snnconvert.engines.integer.torch_runtime import TorchRuntime
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import TableTransfer


@dataclass(frozen=True)
class LayerAgreement:
    """How a layer's words in a runtime compare with those of the packed network.

    Attributes:
        layer: its name.
        words: how many were compared.
        mismatches: how many differ.
        largest: the largest difference, in steps.
    """

    layer: str
    words: int
    mismatches: int
    largest: int


class CompiledNetwork:
    """A spiking network in a runtime: takes and returns what the network does.

    Attributes:
        engine: the runtime's name.
        options: threads, batch and memory.
        compile_seconds: how long building and loading took.
        from_cache: whether the built model came from the cache.
        portion: how many samples the runtime gets at a time at most; None: the whole batch.
    """

    def __init__(
        self,
        engine: str,
        runtime: Runtime,
        signature: Signature,
        returned: Callable[[Any], Any],
        network: fx.GraphModule,
        options: RuntimeOptions,
        compile_seconds: float,
        built: BuiltModel | None = None,
    ) -> None:
        self.engine, self.options = engine, options
        self.compile_seconds, self.from_cache = compile_seconds, built is not None and built.from_cache
        self._runtime, self._signature, self._returned, self._network = runtime, signature, returned, network
        self.portion = portion_of(built.macs, options.threads) if built is not None and options.batch is None else None
        self._built = built  # whose file lasts as long
        self._observer: tuple[Runtime, tuple[StoredWords, ...]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the spiking network returns for the same arguments.

        Raises:
            InputError: if arguments or shapes aren't those it was built for.
        """
        leaves = self._leaves(args, kwargs)
        run, portion = self._runtime.run, self.portion
        outputs = run(leaves) if portion is None else in_portions(run, leaves, self._signature, portion)
        return self._returned(outputs[0] if len(outputs) == 1 else outputs)

    def _leaves(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
        leaves = self._signature.flatten(args, kwargs)
        batch = self._signature.batch_of(leaves)
        if self.options.batch not in (None, batch):
            raise InputError(
                f"this engine was built for batches of {self.options.batch}, got {batch}: compile it with that batch "
                "size, or without one"
            )
        return leaves

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how it runs on this machine."""
        return self._runtime.notes

    def float_operations(self) -> tuple[FloatOperation, ...]:
        """What the runtime computes in floating point, by its own account."""
        return self._runtime.float_operations()

    def agreement(self, *args: Any, **kwargs: Any) -> tuple[LayerAgreement, ...]:
        """Compares every layer's words with those of the packed network, in the order of the graph.

        Runtimes other than torch load the model once more for it, with all words as outputs, and may fuse it otherwise.

        Raises:
            InputError: as :meth:`__call__`.
        """
        leaves = self._leaves(args, kwargs)
        expected = _packed_words(self._network, [leaf.cpu() for leaf in leaves])
        found = self._observed(leaves)
        return tuple(_compared(fired.layer, fired.words, expected[node]) for node, fired in found.items())

    def _observed(self, leaves: Sequence[Tensor]) -> dict[str, LayerWords]:
        """What the runtime's neurons fire, by node."""
        if isinstance(self._runtime, TorchRuntime):
            return self._runtime.words(leaves)
        if self._observer is None:
            dialect = _dialect(self.engine, self._network)
            built = integer_model(self._network, self._signature, dialect, batch=self.options.batch, observed=True)
            runtime = _loaded(self.engine, temporary_model(built.model), self.options, None)
            self._observer = runtime, built.words
        runtime, words = self._observer
        outputs = runtime.run(leaves)[-len(words) :]
        return {
            stored.node: LayerWords(stored.layer, output.to(torch.int32) - stored.zero_point)
            for stored, output in zip(words, outputs, strict=True)
        }


def compile_network(
    network: fx.GraphModule,
    signature: Signature,
    returned: Callable[[Any], Any],
    engine: str,
    options: RuntimeOptions,
    cache: str | Path | bool,
) -> CompiledNetwork:
    """Loads a packed network into a runtime.

    Args:
        network: the spiking graph.
        signature: how it is called.
        returned: what the caller gets, from the graph's output.
        engine: one of ENGINES.
        options: threads, batch and memory.
        cache: folder of built models; True for :func:`default_folder`, False for none. Engine torch builds none.

    Raises:
        ConfigurationError: on an unknown engine.
        EngineError: if the runtime isn't installed, can't run the network exactly, or can't load it.
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "openvino":
        openvino_package()
    start = time.perf_counter()
    folder = default_folder() if cache is True else Path(cache) if cache else None
    plain = _on_cpu(network)
    runtime: Runtime
    built: BuiltModel | None = None
    if engine == "torch":
        runtime = TorchRuntime(network, signature, options)
    else:
        built = build_model(plain, signature, _dialect(engine, plain), options.batch, folder)
        runtime = _loaded(engine, built, options, folder)
    seconds = time.perf_counter() - start
    return CompiledNetwork(engine, runtime, signature, returned, plain, options, seconds, built)


def _dialect(engine: str, network: fx.GraphModule) -> Dialect:
    """The runtime's dialect, as far as this machine is up to it."""
    dialect = DIALECTS[engine]
    has_tables = any(isinstance(module, TableTransfer) for module in network.modules())
    if dialect.computes_functions and has_tables and not computes_functions():
        return dataclasses.replace(dialect, computes_functions=False)
    return dialect


def _on_cpu(network: fx.GraphModule) -> fx.GraphModule:
    devices = {tensor.device.type for tensor in network.state_dict().values()}
    return network if devices <= {"cpu"} else copy.deepcopy(network).cpu()


def _loaded(engine: str, built: BuiltModel, options: RuntimeOptions, folder: Path | None) -> Runtime:
    if engine == "openvino":
        return OpenVino(built.path, options, folder / "openvino" if folder is not None else None)
    return OnnxRuntime(built.path, options)


def _packed_words(network: fx.GraphModule, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    """The words of every layer of neurons in the packed network, by node."""
    recorder = _WordRecorder(network)
    with torch.no_grad():
        recorder.run(*leaves)
    return recorder.words


class _WordRecorder(fx.Interpreter):
    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.words: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        module: nn.Module | None = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, SpikingNeuron):
            self.words[n.name] = result.to(torch.int32)
        return result


def _compared(layer: str, found: Tensor, expected: Tensor) -> LayerAgreement:
    differences = (found - expected).abs()
    return LayerAgreement(
        layer, differences.numel(), int(differences.count_nonzero()), int(differences.max()) if len(differences) else 0
    )
