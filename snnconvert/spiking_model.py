"""The converted network: an nn.Module that runs packed, prints, saves and loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.artifact.store import Artifact, load_artifact, save_artifact
from snnconvert.config import ConversionConfig
from snnconvert.convert.plan import Plan
from snnconvert.errors import InputError
from snnconvert.neurons.packed import PackedNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.report.report import Report


class SpikingModel(nn.Module):
    """A spiking network converted from an ANN.

    Calling it runs the packed engine: one pass over integers that stand for T steps of b-bit spikes.
    It takes and returns what the ANN did, on the device it is moved to with ``to(device)``. Its integers
    and scales keep their types: casting the module (``half()``, ``double()``) changes only the type it
    returns.

    Attributes:
        network: the spiking graph.
        plan: what was converted and what stays analog.
        config: the settings.
        report: budget, effort and fidelity.
        input_shape: shape of one sample.
        output_dtype: type of the output.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        plan: Plan,
        config: ConversionConfig,
        report: Report,
        input_shape: tuple[int, ...],
        output_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network
        self.plan = plan
        self.config = config
        self.report = report
        self.input_shape = tuple(input_shape)
        self.output_dtype = output_dtype

    def forward(self, images: Tensor) -> Tensor:
        """Output of the packed engine.

        Args:
            images: [N, *input_shape], any floating type, on the model's device.

        Raises:
            InputError: if the sample's shape isn't the one the network was converted for.
        """
        if tuple(images.shape[1:]) != self.input_shape or not images.is_floating_point():
            raise InputError(
                f"expected floating-point input [N, {', '.join(map(str, self.input_shape))}], "
                f"got {images.dtype} {list(images.shape)}"
            )
        output: Tensor = self.network(images.float())
        return output.to(self.output_dtype)

    def synapses(self) -> Iterator[tuple[str, Synapse]]:
        """(layer name, synapse) in the order of the graph."""
        yield from self._modules_of(Synapse)

    def neurons(self) -> Iterator[tuple[str, PackedNeuron]]:
        """(layer name, neurons) in the order of the graph."""
        yield from self._modules_of(PackedNeuron)

    def save(self, directory: str | Path, *, force: bool = False) -> None:
        """Writes config.json, graph.json, model.safetensors and report.json; :func:`snnconvert.load` reads them.

        The folder appears whole or not at all.

        Raises:
            InputError: if the folder exists and isn't empty, unless ``force`` replaces it.
        """
        artifact = Artifact(self.network, self.plan, self.config, self.report, self.input_shape, self.output_dtype)
        save_artifact(artifact, Path(directory), force=force)

    def _modules_of(self, kind: type[Any]) -> Iterator[tuple[str, Any]]:
        for node in self.network.graph.nodes:
            if node.op == "call_module":
                module = self.network.get_submodule(str(node.target))
                if isinstance(module, kind):
                    yield str(node.meta.get("layer", node.target)), module

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpikingModel:
        """Moves tensors but keeps their types; a cast changes the type of the output only."""
        requested = fn(torch.zeros(1)).dtype
        self.output_dtype = requested if requested != torch.float32 or self._is_cast(fn) else self.output_dtype

        def moved(tensor: Tensor) -> Tensor:
            probe = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
            return fn(tensor) if probe.dtype == tensor.dtype else tensor.to(probe.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    @staticmethod
    def _is_cast(fn: Callable[[Tensor], Tensor]) -> bool:
        """Whether a function changes floating types at all: tried on both, since to(device) changes none."""
        return fn(torch.zeros(1, dtype=torch.float64)).dtype == torch.float32


def load(directory: str | Path) -> SpikingModel:
    """Loads a network that :meth:`SpikingModel.save` wrote; on the CPU, with bit-identical outputs.

    Nothing in the folder is executed or unpickled: operators come from an allow-list.

    Raises:
        ArtifactError: if a file is missing, damaged (by its checksum), or of another version.
    """
    saved = load_artifact(Path(directory))
    return SpikingModel(
        saved.network, saved.plan, saved.config, saved.report, saved.input_shape, saved.output_dtype
    ).eval()
