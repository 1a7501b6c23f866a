"""Spike streams: a converted network's spikes, integers and golden results as one file for a testbench."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from snnconvert.artifact.atomic import replaced_file
from snnconvert.artifact.module_codec import module_to_json
from snnconvert.engines.assembly import Assembly
from snnconvert.engines.cells import Cell, Inputs
from snnconvert.engines.course import Carrier, Course
from snnconvert.engines.integrator import Integrator, Message
from snnconvert.engines.schedules import run_layers
from snnconvert.engines.timeline import Latency, infer_timeline
from snnconvert.errors import InputError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.integrate_and_fire import CountingCode
from snnconvert.neurons.leaky import LeakyCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.spiking_model import SpikingModel
from snnconvert.version import __version__

SCHEMA = "snnconvert.spike-streams/1"
Array = NDArray[Any]
Json = dict[str, Any]
_SETTINGS = ("digits", "limits")
_EXACT_CODES = ("if", "lif", "multithreshold", "ternary")
_RULES = (
    "Spikes: spikes[t] of a neuron leaves it at tick start + t and counts as spikes[t] - rests[t]; its constant "
    "enters once a window, beside the steps.",
    "Linear nodes (synapse, integer_scale, sum_pool, add, cat, layouts) act on every step and, apart, on the "
    "constant. A synapse multiplies by weight, then by multiplier; bias * multiplier joins its constant.",
    "Total of a window: v = 0, then v <- growth[t] * v + x[t] at every step, at last plus the constant. A node "
    "whose own growth has one step acts on the totals of its inputs. Where inputs start apart, the earlier wait.",
    "A max_pool of T > 1 steps: M[t] = max_pool(x[1] + ... + x[t] + constant * (t / T)), M[0] = 0; what leaves is "
    "M[t] - M[t-1], without a constant.",
    "Drive: timing 'window' u = (v + bias) * gain of the total v, at most cap, the same at every step; timing "
    "'stream' u = x[t] * (gain * T) + (constant + bias) * gain at step t. Every sum and product is rounded to "
    "significand_bits, half to even, those of the membrane m to 53.",
    "Replay 'integers': with gain_mantissa * 2^gain_exponent (and bias) nothing is ever rounded for these images, or "
    "there are thresholds: word = minimum + number of k with sign * v >= thresholds[k]. 'rounded': the order of "
    "operations matters. 'stimulus': take the spikes from this file, for the reason given.",
    "Output: unit * v, unit and product rounded to significand_bits, then to float32.",
)
_COUNTING = "; s = clip(floor(m / threshold), 0, spike_range[1]); reset soft: m <- m - threshold * s, hard: 0 if s > 0"
_BANK = (
    "; s = sign(m) * 2^k with the largest k < bits whose |m| >= 0.75 * threshold * 2^k (rule ecmt: threshold * "
    "(2^k - 0.5)), 0 if there is none; unless signed a negative s is cut to the largest power of two <= "
)
_STEPS = {
    "packed": "word + offset in T digits of bits bits, the most significant first",
    "if": "m <- m + (u + constant_current)" + _COUNTING,
    "lif": "m <- (m - initial) * leak + ((u + constant_current) + initial)" + _COUNTING,
    "multithreshold": "m <- m + u" + _BANK + "the sum of s so far; m <- m - threshold * s",
    "ternary": "m <- m + u; s = 1 if m >= threshold and sum of s < maximum, -1 if m < 0 and sum of s > minimum, "
    "else 0; m <- m - threshold * s",
    "differential": "m <- m + u - threshold * mean" + _BANK + "mean * t; m <- m - threshold * s; mean <- mean + s / t",
    "spikepack": "m <- m + u at the first step; s = 1 if m >= tau^(T - t); m <- m - s * tau^(T - t)",
}


def export_spike_streams(
    snn: SpikingModel, images: Tensor, path: str | Path, *, latency: Latency = "streaming", force: bool = False
) -> None:
    """Writes one .npz from which a testbench replays these images without this package; nothing is pickled.

    ``manifest`` (JSON as uint8) lists the nodes of the spiking graph in order, with kind, settings, timing and
    arrays, and the rules that connect them. Arrays are called ``<node>.<array>``: spikes [T, N, ...] of every
    neuron layer; its gain and bias as float32 and as m·2^e; the integer threshold of every level of packed
    neurons; int8 weights, int32 biases and multipliers of every synapse; the integer currents that synapses
    and neurons see in a window; ``input`` and ``logits``. From the spikes that encode the input to the output's
    current all is integer arithmetic. Neurons that can't be replayed (they read analog nodes, or spikes whose
    worth is no integer) say why, and their spikes are to be taken from the file; those whose potentials are
    rounded say how.

    Args:
        snn: the converted network.
        images: [N, *input_shape], on the network's device.
        path: the file, .npz; folders that are missing are made.
        latency: see :meth:`~snnconvert.spiking_model.SpikingModel.simulate`.
        force: replace a file that exists.

    Raises:
        InputError: if there are no images, their shape is wrong, or the file exists or can't be written.
        ConfigurationError: on an unknown latency model.
    """
    target = Path(path)
    _check(snn, images, target, force=force)
    timeline = infer_timeline(snn.network, latency)
    seen = {node.name: _Seen() for node in snn.network.graph.nodes}
    assembly = Assembly(snn.network, timeline, None)
    for name, cell in assembly.cells.items():
        sources = [seen[source] for source in assembly.sources[name]]
        assembly.cells[name] = _Tap(cell, timeline.courses[name], seen[name], sources)
    (entry,) = [node.name for node in snn.network.graph.nodes if node.op == "placeholder"]
    seen[entry] = _Seen(total=images.float())
    with torch.no_grad():
        answers = run_layers(snn.network, timeline, assembly, [images.float()])
    arrays = {"input": _numpy(images.float()), "logits": _numpy(answers[-1])}
    nodes = _Nodes(snn.network, timeline.courses, seen, arrays).described()
    manifest = {
        "schema": SCHEMA,
        "producer": f"snnconvert {__version__}",
        "images": len(images),
        "latency": latency,
        "ticks": timeline.ticks,
        "rules": _RULES,
        "nodes": nodes,
        "analog": [node["name"] for node in nodes if node["kind"] == "analog"],
        "stimuli": [node["name"] for node in nodes if node.get("replay") == "stimulus"],
    }
    text = json.dumps(manifest, allow_nan=False, indent=1)
    _write(target, {"manifest": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}, force=force)


@dataclass
class _Seen:
    """What a node sent in a window.

    Attributes:
        spikes: all steps, of a neuron layer.
        total: of the window, in the type in which it is integrated.
        is_sum: whether it is made of spikes of integer worth by the rules, without analog nodes.
        finest: the largest e ≤ 0 such that every step is a multiple of 2^e.
        reach: Σ over the steps of the largest magnitude.
        constant: largest magnitude of what entered beside the steps.
    """

    spikes: Tensor | None = None
    total: Tensor | None = None
    is_sum: bool = False
    finest: int = 0
    reach: float = 0.0
    constant: float = 0.0


class _Tap(Cell):
    """A cell that is listened to."""

    def __init__(self, cell: Cell, course: Course, seen: _Seen, sources: Sequence[_Seen]) -> None:
        self._cell, self._course, self._seen, self._sources = cell, course, seen, sources

    def tick(self, tick: int, inputs: Inputs) -> Message | None:
        """What the cell does."""
        return self._cell.tick(tick, inputs)

    def run(self, ticks: Sequence[int], inputs: Mapping[str, Mapping[int, Message]]) -> dict[int, Message]:
        """What the cell does; it is kept in short."""
        sent = self._cell.run(ticks, inputs)
        messages = list(sent.values())
        if messages and isinstance(messages[0].values, Tensor):
            self._keep(messages)
        return sent

    def _keep(self, messages: list[Message]) -> None:
        window, seen, carrier = Integrator(self._course), self._seen, self._course.carrier
        parts = [message.values for message in messages]
        constants = [message.constant for message in messages if message.constant is not None]
        for message in messages:
            window.add(message)
        seen.total = window.estimate()
        if carrier is Carrier.SPIKES:
            seen.spikes, seen.is_sum = torch.stack(parts), self._course.is_integer
        elif carrier is Carrier.CURRENT:
            seen.is_sum = self._course.is_integer and all(source.is_sum for source in self._sources)
            seen.finest = min(map(_finest, [*parts, *constants]))
            seen.reach, seen.constant = sum(map(_largest, parts)), max(map(_largest, constants), default=0.0)


class _Nodes:
    """The nodes of a spiking graph as JSON; their arrays go to a common dictionary."""

    def __init__(
        self,
        network: fx.GraphModule,
        courses: Mapping[str, Course],
        seen: Mapping[str, _Seen],
        arrays: dict[str, Array],
    ) -> None:
        self._network, self._courses, self._seen, self._arrays = network, courses, seen, arrays

    def described(self) -> list[Json]:
        """All nodes that have a time, in order."""
        return [self._node(node) for node in self._network.graph.nodes if self._is_timed(node)]

    def _is_timed(self, node: fx.Node) -> bool:
        return self._courses[node.name].carrier is not Carrier.STATIC

    def _node(self, node: fx.Node) -> Json:
        course, seen = self._courses[node.name], self._seen[node.name]
        found: Json = {"name": node.name, "layer": str(node.meta.get("layer", node.name))}
        found["inputs"] = [source.name for source in node.all_input_nodes if self._is_timed(source)]
        found |= {"carrier": course.carrier.value, "start": course.start, "growth": course.growth, "arrays": {}}
        if node.op == "call_module":
            self._add_module(node, self._network.get_submodule(str(node.target)), found)
        elif node.op == "call_function":
            self._add_function(node, found)
        else:
            found["kind"] = "input" if node.op == "placeholder" else "output"
        if seen.total is not None and node.op.startswith("call"):
            if course.carrier is Carrier.CURRENT and self._is_golden(node, found["kind"]):
                is_integer = seen.is_sum and _finest(seen.total) == 0
                self._add(found, "current", _numpy(seen.total.to(torch.int64) if is_integer else seen.total))
            elif course.carrier is Carrier.REAL:
                self._add(found, "values", _numpy(seen.total))
        return found

    def _is_golden(self, node: fx.Node, kind: str) -> bool:
        """Whether this current is a synapse's own, or one that neurons or the output see."""
        return kind == "synapse" or any(self._courses[user.name].carrier is not Carrier.CURRENT for user in node.users)

    def _add(self, found: Json, name: str, array: Array) -> None:
        found["arrays"][name] = f"{found['name']}.{name}"
        self._arrays[f"{found['name']}.{name}"] = array

    def _add_module(self, node: fx.Node, module: nn.Module, found: Json) -> None:
        found |= module_to_json(module)
        for name, tensor in module.state_dict().items():
            if name not in _SETTINGS:
                self._add(found, name, _numpy(tensor.to(torch.int64) if name == "multiplier" else tensor))
        total = self._seen[node.all_input_nodes[0].name].total
        bits = 53 if total is not None and total.dtype == torch.float64 else 24
        if isinstance(module, SpikingNeuron):
            self._add_neuron(node, module, found, bits)
        elif isinstance(module, Synapse):
            found["operation"] = "linear" if module.geometry is None else f"conv{module.weight.dim() - 2}d"
            found["neurons"] = sorted(self._neurons_behind(node))
        elif found["kind"] == "to_real":
            found["significand_bits"] = bits

    def _neurons_behind(self, node: fx.Node) -> set[str]:
        """The neuron layers whose spikes a synapse reads."""
        sources = set(node.all_input_nodes)
        neurons = {source for source in sources if source.op == "call_module"}
        behind = (self._neurons_behind(source) for source in sources - neurons if self._is_timed(source))
        return {neuron.name for neuron in neurons}.union(*behind)

    def _add_neuron(self, node: fx.Node, neuron: SpikingNeuron, found: Json, bits: int) -> None:
        code, source, course = neuron.code, node.all_input_nodes[0], self._courses[node.name]
        streams = code.streams and course.start == self._courses[source.name].start
        self._add(found, "spikes", _numpy(_given(self._seen[node.name].spikes)))
        for name, values in (("gain", neuron.gain), ("bias", neuron.bias)):
            if values is not None:
                mantissa, exponent = mantissas(values)
                self._add(found, f"{name}_mantissa", mantissa)
                self._add(found, f"{name}_exponent", exponent)
        found["code"] |= _code(code)
        found |= {
            "rests": code.rests if course.rests_each_step else [0] * code.T,
            "constant": 0 if course.rests_each_step else -code.offset,
            "timing": "stream" if streams else "window",
            "significand_bits": 53 if streams else bits,
            "cap": neuron.ceiling if neuron.is_capped and not streams else None,
        }
        reason = self._reason(source, code)
        if reason is not None:
            found |= {"replay": "stimulus", "reason": reason}
        elif code.exact:
            found["replay"] = "integers"
            for name, array in zip(("thresholds", "sign"), integer_thresholds(neuron, bits), strict=True):
                self._add(found, name, array)
        else:
            exact = _is_exact(neuron, self._seen[source.name], streams=streams, bits=bits)
            found["replay"] = "integers" if exact else "rounded"

    def _reason(self, source: fx.Node, code: SpikeCode) -> str | None:
        """Why neurons that read a node can't be replayed."""
        read = self._seen[source.name]
        if self._courses[source.name].carrier is Carrier.REAL:
            return "it encodes the input" if source.op == "placeholder" else "it reads analog nodes"
        if not read.is_sum or (code.exact and _finest(_given(read.total)) < 0):
            return "what it reads is no sum of integers"
        return None

    def _add_function(self, node: fx.Node, found: Json) -> None:
        """Kind and arguments by name, sizes as they are for these images."""
        if self._courses[node.name].carrier is Carrier.REAL:
            found |= {"kind": "analog", "operator": str(node.target)}
            return
        packet, schema = getattr(node.target, "overloadpacket", node.target), getattr(node.target, "_schema", None)
        declared = schema.arguments if schema is not None else ()
        names = [item.name for item in declared] or [str(index) for index in range(len(node.args))]
        defaults = {item.name: item.default_value for item in declared if item.has_default_value()}
        given = {**defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}
        plain = {name: self._plain(value) for name, value in given.items() if not self._is_input(value)}
        found |= {"kind": str(getattr(packet, "__name__", packet)), "arguments": plain}

    def _is_input(self, value: Any) -> bool:
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        return isinstance(first, fx.Node) and self._is_timed(first)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._plain(self._size(value))
        if isinstance(value, (list, tuple)):
            return [self._plain(item) for item in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

    def _size(self, node: fx.Node) -> Any:
        """A size or constant of the graph, for these images."""
        if node.op == "get_attr":
            return getattr(self._network, str(node.target)).tolist()
        source, target = node.args[0], node.target
        if isinstance(source, fx.Node) and self._is_timed(source):
            return _given(self._seen[source.name].total).shape[int(str(node.args[1]))]
        assert callable(target)
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._size)
        return target(*args, **kwargs)


def mantissas(values: Tensor) -> tuple[Array, Array]:
    """Integers m, odd or zero, and e with values = m·2^e."""
    fractions, exponents = np.frexp(_numpy(values.double()))
    wide = np.ldexp(fractions, 53).astype(np.int64)
    zeros = np.log2(np.maximum(wide & -wide, 1)).astype(np.int32)
    return wide >> zeros, np.where(wide == 0, 0, exponents - 53 + zeros).astype(np.int32)


def integer_thresholds(neuron: SpikingNeuron, bits: int) -> tuple[Array, Array]:
    """The smallest integer current v, times the sign of the gain, that reaches each word; by bisection.

    Args:
        neuron: neurons whose closed form is exact.
        bits: 24 or 53, the significand of the type that holds currents; they don't exceed 2^bits.

    Returns:
        int64 [L, ...] for the words minimum + 1 to ceiling, 2^bits + 1 where no current reaches one; and the
        sign, int8. Both broadcast against currents.
    """
    dtype = torch.float32 if bits == 24 else torch.float64
    sign = 1 - 2 * (neuron.gain < 0).to(torch.int64)
    shape = neuron.in_steps(torch.zeros_like(neuron.gain)).shape
    words = torch.arange(int(neuron.code.minimum) + 1, neuron.ceiling + 1, device=sign.device)
    words = words.view(-1, *[1] * len(shape)).expand(-1, *shape)
    low, high = torch.full_like(words, -(1 << bits)), torch.full_like(words, (1 << bits) + 1)
    for _ in range(bits + 2):
        middle = (low + high) >> 1
        fired = neuron.code.quantize_(neuron.in_steps((sign * middle).to(dtype)), neuron.ceiling)
        low, high = torch.where(fired >= words, low, middle + 1), torch.where(fired >= words, middle, high)
    return _numpy(high), _numpy(sign.to(torch.int8))


def _is_exact(neuron: SpikingNeuron, read: _Seen, *, streams: bool, bits: int) -> bool:
    """Whether the drive and the membrane never need more bits than they have, for what the neurons read."""
    code, membrane = neuron.code, _code(neuron.code)
    if code.name not in _EXACT_CODES or membrane.get("leak", 1.0) != 1:
        return False
    constants = [membrane["initial"], membrane.get("constant_current", 0.0)]
    gain, bias = float(neuron.gain.abs().max()), 0.0 if neuron.bias is None else _largest(neuron.bias)
    before = min(read.finest, 0 if neuron.bias is None else _finest(neuron.bias))
    after = before + _finest(neuron.gain)
    held = _largest(_given(read.total)) + bias
    arrived = code.T * (read.reach + read.constant + bias) if streams else held
    total = (arrived if streams else code.T * arrived) * gain + 2 * code.T * (code.T + sum(map(abs, constants)))
    finest = min(after, _finest(torch.tensor(constants, dtype=torch.float64)))
    precision = 53 if streams else bits
    fits = arrived < 2.0 ** (precision + before) and arrived * gain < 2.0 ** (precision + after)
    return fits and total < 2.0 ** (53 + finest)


def _code(code: SpikeCode) -> Json:
    """What a code's step needs to know; potentials in T-ths of Δ where it streams, else in Δ."""
    found: Json = {"name": code.name, "spike_range": code.spike_range, "settings": code.options()}
    found |= {"minimum": code.minimum, "maximum": code.maximum, "threshold": code.T if code.streams else 1}
    found["initial"] = float(code.initial(torch.zeros(1, dtype=torch.float64)).potential)
    found["step"] = _STEPS.get(code.name, str(type(code).__doc__))
    if isinstance(code, CountingCode):
        found["constant_current"] = code.constant_current()
    if isinstance(code, LeakyCode):
        found["leak"] = code.leak
    return found


def _finest(values: Tensor) -> int:
    """The largest e ≤ 0 such that all values are multiples of 2^e."""
    if not values.is_floating_point() or bool((values == values.round()).all()):
        return 0
    return int(mantissas(values[values != 0])[1].min())


def _largest(values: Tensor) -> float:
    return float(values.double().abs().max()) if values.numel() else 0.0


def _given(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _numpy(values: Tensor) -> Array:
    array: Array = values.detach().cpu().contiguous().numpy()
    return array


def _check(snn: SpikingModel, images: Tensor, target: Path, *, force: bool) -> None:
    if images.dim() == 0 or len(images) == 0:
        raise InputError("there are no images to export: give at least one")
    if tuple(images.shape[1:]) != snn.input_shape or not images.is_floating_point():
        expected = ", ".join(map(str, snn.input_shape))
        raise InputError(f"expected floating-point images [N, {expected}], got {images.dtype} {list(images.shape)}")
    if target.suffix != ".npz":
        raise InputError(f"{target}: spike streams are .npz files")
    if target.is_dir():
        raise InputError(f"{target} is a folder: choose another file")
    if target.exists() and not force:
        raise InputError(f"{target} exists: choose another file, or replace it with force=True")


def _write(target: Path, arrays: Mapping[str, Array], *, force: bool) -> None:
    """Writes the file whole or not at all; the same arrays give the same bytes."""
    with replaced_file(target, force=force) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
