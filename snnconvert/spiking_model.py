"""The converted network: an nn.Module that runs packed, prints, saves and loads."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.artifact_folder import Artifact, load_artifact, save_artifact
from snnconvert.config import ConversionConfig
from snnconvert.convert.plan import Plan
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.compiled import CompiledNetwork, compile_network
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.engines.recording import RecordRequest
from snnconvert.engines.stepwise import Schedule, Simulation, is_exact, neuron_layers
from snnconvert.engines.stepwise import simulate as run_stepwise
from snnconvert.engines.stepwise import stream as stream_frames
from snnconvert.engines.timeline import Latency
from snnconvert.errors import InputError
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.report.report import Report
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.network import TrainableNetwork


class SpikingModel(nn.Module):
    """A spiking network converted from an ANN.

    Calling it runs the packed engine, one pass over integers that stand for T steps of b-bit spikes, if all
    its neurons are packed; with neurons of another code, whose spikes depend on when their input comes, it
    runs step by step. :meth:`simulate` always does, and shows what happens inside. It takes and returns what
    the ANN did, on the device it is moved to with ``to(device)``. Its integers and scales keep their types:
    casting the module (``half()``, ``double()``) changes only the type it returns.

    It is called like the ANN, by position or by name, and returns what the ANN did: dicts, tuples and lists
    as such, namedtuples and records such as Hugging Face's ``ModelOutput`` in their own class. After saving
    and loading, which imports no foreign code, the latter come back as
    :class:`~snnconvert.convert.structure.Record`, a dict with attribute access and indices.

    Attributes:
        network: the spiking graph.
        plan: what was converted and what stays analog.
        config: the settings.
        report: budget, effort and fidelity.
        signature: how it is called and what it returns.
        output_dtype: type of the floating outputs.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        plan: Plan,
        config: ConversionConfig,
        report: Report,
        signature: Signature,
        output_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network
        self.plan = plan
        self.config = config
        self.report = report
        self.signature = signature
        self.output_dtype = output_dtype
        self.trainable: TrainableNetwork | None = None

    def train(self, mode: bool = True) -> SpikingModel:
        """Between training, with real parameters and straight-through gradients, and the integers they stand for.

        ``train()`` gives the model parameters, the first time: weights, biases and weight steps of its synapses and
        thresholds of its neurons, which start at the integers it has, so make the optimizer after it. What it then
        returns is what it returned before, with gradients. ``eval()`` rounds what was learned into the integers, which
        everything else runs; simulating, compiling and saving in between round it, too. :attr:`gradients` says whether
        training takes one pass or all time steps.
        """
        if mode and self.trainable is None:
            trial = [spec.trial(2).to(self._device) for spec in self.signature.tensors]
            self.trainable = TrainableNetwork(self.network, trial)
        if not mode:
            self._settle()
        return super().train(mode)

    @property
    def gradients(self) -> Gradients:
        """How it computes in training: one pass through the "window", or all steps in "time".

        Networks of packed neurons take one pass; those of rate-coded ones ("if", "lif") all steps, as simulate does,
        unless told otherwise. Ternary, multi-threshold and differential neurons only know the window: there they fire
        in training as for a constant current. Set it after ``train()``.

        Raises:
            InputError: before ``train()``.
            ConfigurationError: when set to "time", if gradients can't go through the steps of some neurons.
        """
        return self._trainable.gradients

    @gradients.setter
    def gradients(self, gradients: Gradients) -> None:
        self._trainable.gradients = gradients

    @property
    def _trainable(self) -> TrainableNetwork:
        if self.trainable is None:
            raise InputError("the network has no gradients before train()")
        return self.trainable

    def finish_training(self) -> SpikingModel:
        """Rounds what was learned into the integers and drops the parameters; in evaluation mode."""
        self.eval()
        self.trainable = None
        return self

    def _settle(self) -> None:
        if self.trainable is not None:
            self.trainable.settle()

    @property
    def _device(self) -> torch.device:
        return next((tensor.device for tensor in self.network.buffers()), torch.device("cpu"))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample of its first input; None: any size."""
        return self.signature.input_shape

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output: packed where that is exact, else step by step.

        Args:
            args: the ANN's arguments, such as images ``[N, *input_shape]`` of any floating type, on the model's
                device.
            kwargs: those given by name.

        Raises:
            InputError: if arguments or shapes aren't those the network was converted for.
        """
        leaves = self.signature.flatten(args, kwargs)
        if self.training and self.trainable is not None:
            return self._returned(self.trainable(*leaves))
        output = self.network(*leaves) if self._is_exact else run_stepwise(self.network, [leaves]).output
        return self._returned(output)

    def _returned(self, output: Any) -> Any:
        """What the ANN would return, from one tensor or several."""
        if isinstance(output, Tensor):
            return self.signature.unflatten(self._cast(output))
        return self.signature.unflatten([self._cast(item) for item in output])

    def _cast(self, output: Tensor) -> Tensor:
        return output.to(self.output_dtype) if output.is_floating_point() else output

    def simulate(
        self,
        *args: Any,
        record: RecordRequest = (),
        latency: Latency = "streaming",
        schedule: Schedule = "layer",
        **kwargs: Any,
    ) -> Simulation:
        """Runs the network in time: spikes of every step through integer synapses into membranes that integrate.

        Args:
            args: the ANN's arguments: still images ``[N, *input_shape]``, or, for a network with a single input,
                event frames ``[T, N, *input_shape]`` that add up to what the ANN would see; on the model's device.
            record: what to keep of the neuron layers: any of "spikes", "potentials", "counts" and
                "unevenness", or a mapping from these to layer names or regular expressions.
            latency: "streaming": rate-coded neurons fire while they integrate; "window": every neuron waits
                for its whole input first. Packed neurons always wait.
            schedule: "layer" runs each layer's window as a whole, "tick" every tick through all layers; the
                results are the same, memory and speed differ.
            kwargs: arguments given by name.

        Raises:
            InputError: if the shape isn't the one the network was converted for.
            ConfigurationError: on an unknown option or layer name.
            ConversionError: if anything but spikes of its code would reach a synapse, naming the layer.
        """
        self._settle()
        frames, events = self._frames(args, kwargs)
        result = run_stepwise(self.network, frames, record=record, latency=latency, schedule=schedule, events=events)
        return dataclasses.replace(result, output=self._returned(result.output), readout=self._returned(result.readout))

    def _frames(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[tuple[Tensor, ...]], bool]:
        """What enters at each tick, and whether these are event frames."""
        given = [*args, *kwargs.values()]
        events = (
            self.signature.one_input is not None
            and len(given) == 1
            and isinstance(given[0], Tensor)
            and given[0].dim() == len(self.input_shape) + 2
        )
        if not events:
            return [self.signature.flatten(args, kwargs)], False
        if len(given[0]) == 0:
            raise InputError("there are no event frames")
        for frame in given[0][:1]:
            self.signature.flatten((frame,), {})
        return [(frame,) for frame in given[0].float()], True

    def stream(
        self, frames: Iterable[Tensor], steps: int, *, latency: Latency = "streaming"
    ) -> Iterator[Tensor | None]:
        """Feeds event frames as they come; membranes keep their state between them.

        Args:
            frames: ``[N, *input_shape]`` each; ``steps`` of them are one window.
            steps: number of frames.
            latency: as for :meth:`simulate`.

        Yields:
            After each tick what the network says so far, None as long as it says nothing; the last is its
            answer.

        Raises:
            InputError: if a frame has the wrong shape, or there are fewer than ``steps``.
        """
        if self.signature.one_input is None or not self.signature.result.is_tensor:
            raise InputError(
                "only a network with one input and one output can be fed with event frames, this one takes "
                f"{', '.join(spec.name for spec in self.signature.tensors)} and returns {self.signature.result}"
            )
        self._settle()
        given = 0

        def checked() -> Iterator[Tensor]:
            nonlocal given
            for frame in itertools.islice(frames, steps):
                (checked_frame,) = self.signature.flatten((frame,), {})
                given += 1
                yield checked_frame

        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps must be a positive integer, got {steps!r}")
        for tick, answer in enumerate(stream_frames(self.network, checked(), steps, latency)):
            if given < min(tick + 1, steps):
                raise InputError(f"the stream ended after {given} of {steps} frames")
            yield None if answer is None else self._returned(answer)

    def compile(  # type: ignore[override]
        self,
        engine: str = "onnxruntime",
        *,
        threads: int | None = None,
        batch: int | None = None,
        lean: bool = False,
        cache: str | Path | bool = True,
    ) -> CompiledNetwork:
        """Loads the network into a runtime of 8-bit integer kernels.

        What comes back is called like the network and gives the same integers, several times faster than the ANN;
        its ``agreement`` counts, layer by layer, where a runtime's own rounding differs.

        Args:
            engine: "onnxruntime", "openvino" (an extra), or "torch", which needs no other runtime: oneDNN's kernels on
                the CPU; on a GPU, if the model is there, int8 matrix products (not measured yet).
            threads: of one call; None: what the runtime thinks best. Engine torch sets torch's own number of threads,
                the whole process's, for the time of a call.
            batch: a fixed batch size; None: any.
            lean: give memory back after each call.
            cache: whether built models are kept on disk, found by their content; or the folder for them. Engine torch
                builds none.

        Raises:
            ConfigurationError: on an unknown engine or a setting out of range.
            EngineError: if the runtime isn't installed, or can't run the network exactly, naming the layer.
        """
        self._settle()
        options = RuntimeOptions(threads, batch, lean)
        return compile_network(self.network, self.signature, self._returned, engine, options, cache)

    @property
    def _is_exact(self) -> bool:
        return is_exact(self.network)

    def synapses(self) -> Iterator[tuple[str, Synapse]]:
        """(layer name, synapse) in the order of the graph."""
        yield from self._modules_of(Synapse)

    def neurons(self) -> Iterator[tuple[str, SpikingNeuron]]:
        """(layer name, neurons) in the order of the graph."""
        yield from neuron_layers(self.network).values()

    def save(self, directory: str | Path, *, force: bool = False) -> None:
        """Writes config.json, graph.json, model.safetensors and report.json; :func:`snnconvert.load` reads them.

        The folder appears whole or not at all. Weights take the bits they have, packed; every buffer is restored bit
        for bit.

        Raises:
            InputError: if the folder exists and isn't empty, unless ``force`` replaces it.
        """
        self._settle()
        artifact = Artifact(self.network, self.plan, self.config, self.report, self.signature, self.output_dtype)
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
        saved.network, saved.plan, saved.config, saved.report, saved.signature, saved.output_dtype
    ).eval()
