"""Spiking networks in torch itself, without another runtime: on the CPU with oneDNN's 8-bit kernels, and on GPUs.

On the CPU words are bytes between 8-bit kernels. On CUDA devices linear layers and convolutions of one group are int8
matrix products, for tensor cores, and the rest is float32 as the packed network has it, where integers up to 2^24 are
exact: without TF32, and without cuDNN, which may choose algorithms that aren't sums of products. That part is tested on
the CPU, but hasn't been run or measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.proof import check_words
from snnconvert.engines.integer.runtime import FloatOperation, LayerWords, RuntimeOptions
from snnconvert.engines.integer.torch_kernels import missing_kernels
from snnconvert.engines.integer.torch_lowering import ByteNetwork, Fired, lower_to_bytes
from snnconvert.engines.integer.torch_matrices import IntegerMatrix, as_packed, with_integer_matrices
from snnconvert.engines.integer.torch_twins import ByteSum, ByteSynapse, PoolBytes, ReadBytes, TableBytes, WriteBytes
from snnconvert.engines.integer.traces import traced

_INTEGER = (ByteSum, ByteSynapse, PoolBytes, ReadBytes, TableBytes, WriteBytes, IntegerMatrix)
_MOVING = frozenset({OpKind.LAYOUT, OpKind.SHAPE, OpKind.CONCAT, OpKind.MAX_POOL})


class TorchRuntime:
    """A lowered network that torch executes node by node.

    Autocast has no effect on it. Bytes hold no NaN: where the packed network hands one on, words here are arbitrary.
    """

    def __init__(self, network: fx.GraphModule, signature: Signature, options: RuntimeOptions) -> None:
        """Lowers a network for the device it lives on.

        Args:
            network: packed; it is left as it is.
            signature: how it is called.
            options: threads: torch's own setting, which is the whole process's, for the time of a call; lean: on a
                GPU, gives cached memory back after each call; on the CPU torch keeps none.

        Raises:
            EngineError: naming the layer, if neurons aren't packed.
        """
        self._options = options
        self._device = next((item.device for item in network.state_dict().values()), torch.device("cpu"))
        self.notes: tuple[str, ...] = ()
        lowered = self._lowered(network, signature)
        self._graph, self._fired = lowered.graph, lowered.fired

    def _lowered(self, network: fx.GraphModule, signature: Signature) -> ByteNetwork:
        check_words(network)
        if self._device.type == "cuda":
            return with_integer_matrices(network)
        missing = missing_kernels() if self._device.type == "cpu" else f"there are no 8-bit kernels on {self._device}"
        if missing:
            self.notes = (f"{missing}: synapses run in float32, exactly, but several times slower",)
            return as_packed(network)
        return lower_to_bytes(network, traced(network, signature))

    def run(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, on the network's device."""
        with self._settings():
            found = self._graph(*(leaf.to(self._device) for leaf in leaves))
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def words(self, leaves: Sequence[Tensor]) -> dict[str, LayerWords]:
        """The words of every layer of neurons, on the CPU, by the spiking graph's node."""
        recorder = _WordReader(self._graph, self._fired)
        with self._settings():
            recorder.run(*(leaf.to(self._device) for leaf in leaves))
        return recorder.words

    def float_operations(self) -> tuple[FloatOperation, ...]:
        """The nodes of the lowered graph that compute in floating point."""
        found: list[FloatOperation] = []
        for node in self._graph.graph.nodes:
            layer = str(node.meta.get("layer", node.name))
            if node.op == "call_module":
                module = self._graph.get_submodule(str(node.target))
                if not isinstance(module, _INTEGER):
                    found.append(FloatOperation(type(module).__name__, layer))
            elif node.op == "call_function" and kind_of(node) not in _MOVING:
                found.append(FloatOperation(str(node.target), layer))
        return tuple(found)

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Threads and floats that are computed exactly, for the time of a call."""
        threads, device = torch.get_num_threads(), self._device
        with torch.no_grad(), torch.autocast(device.type, enabled=False), _exact_floats(device):
            try:
                if self._options.threads is not None:
                    torch.set_num_threads(self._options.threads)
                yield
            finally:
                if self._options.threads is not None:
                    torch.set_num_threads(threads)
        if self._options.lean and self._device.type == "cuda":
            torch.cuda.empty_cache()


class _WordReader(fx.Interpreter):
    """Runs a lowered graph and keeps words as they are fired, before sums overwrite their bytes."""

    def __init__(self, graph: fx.GraphModule, fired: Sequence[Fired]) -> None:
        super().__init__(graph)
        self._fired = {layer.name: layer for layer in fired}
        self.words: dict[str, LayerWords] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Runs a node."""
        result = super().run_node(n)
        layer = self._fired.get(n.name)
        if layer is not None:
            words = result.detach().cpu().to(torch.int32) - layer.zero_point
            self.words[layer.node] = LayerWords(layer.layer, words)
        return result


@contextmanager
def _exact_floats(device: torch.device) -> Iterator[None]:
    """Convolutions and matrix products of a GPU as sums of IEEE float32 products: no TF32, no Winograd, no FFT."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    enabled, precision = cudnn.enabled, matmul.fp32_precision
    try:
        cudnn.enabled, matmul.fp32_precision = False, "ieee"
        yield
    finally:
        cudnn.enabled, matmul.fp32_precision = enabled, precision
