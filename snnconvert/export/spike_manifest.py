"""The manifest: nodes of a spiking graph with settings, timing and arrays, and the rules to replay them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx, nn

from snnconvert.artifact.module_codec import module_to_json
from snnconvert.engines.course import Carrier, Course
from snnconvert.export.spike_arithmetic import code_settings, integer_thresholds, is_exact_in_integers
from snnconvert.export.spike_arrays import as_array, finest, given_value, mantissas
from snnconvert.export.spike_tap import Seen
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

Json = dict[str, Any]
Array = NDArray[Any]
_SETTINGS = ("digits", "limits")
RULES = (
    "Spikes: spikes[t] of a neuron leaves it at tick start + t and counts as spikes[t] - rests[t]; its constant "
    "enters once a window, beside the steps.",
    "Linear nodes (synapse, integer_scale, sum_pool, add, cat, layouts) act on every step and, apart, on the "
    "constant. A synapse multiplies by weight, then by multiplier; bias * multiplier joins its constant.",
    "Total of a window: v = 0, then v <- growth[t] * v + x[t] at every step, at last plus the constant. A node "
    "whose own growth has one step acts on the totals of its inputs. Where inputs start apart, the earlier wait. Of "
    "neurons whose code has words, the total numbers the value: it is words[v].",
    "A max_pool of T > 1 steps: M[t] = max_pool(x[1] + ... + x[t] + constant * (t / T)), M[0] = 0; what leaves is "
    "M[t] - M[t-1], without a constant.",
    "Drive: timing 'window' u = (v + bias) * gain of the total v, at most cap, the same at every step; timing "
    "'stream' u = x[t] * (gain * T) + (constant + bias) * gain at step t. Every sum and product is rounded to "
    "significand_bits, half to even, those of the membrane m to 53.",
    "Replay 'integers': with gain_mantissa * 2^gain_exponent (and bias) nothing is ever rounded for these images, or "
    "there are thresholds: word = minimum + number of k with sign * v >= thresholds[k]. 'rounded': the order of "
    "operations matters. 'stimulus': take the spikes from this file, for the reason given.",
    "A product (mul, matmul, conv) of words A, B with A[t] = g[t] * A[t-1] + a[t], g the inputs' growth, B alike: a[t] "
    "o B[t] + g[t] * A[t-1] o b[t] leaves at step t, times multiplier. Where they start apart or rest once a window, "
    "the total of the earlier one meets every step of the other. Rate codes: the change of their estimates' product.",
    "A table_transfer acts on totals: table[clip(round(v * gain), first, first + length - 1) - first]; a "
    "leaky_transfer: v * gain, or v * negative_gain where v < 0; both in 24 bits, half to even.",
    "Output: unit * v, unit and product rounded to significand_bits, then to float32.",
)


def _operation(synapse: Synapse) -> str:
    if synapse.geometry is None:
        return "linear"
    return f"conv{'_transpose' if synapse.geometry.transposed else ''}{synapse.weight.dim() - 2}d"


class ManifestNodes:
    """The nodes of a spiking graph as JSON; their arrays go to a common dictionary."""

    def __init__(
        self,
        network: fx.GraphModule,
        courses: Mapping[str, Course],
        seen: Mapping[str, Seen],
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
                is_integer = seen.is_sum and finest(seen.total) == 0
                self._add(found, "current", as_array(seen.total.to(torch.int64) if is_integer else seen.total))
            elif course.carrier is Carrier.REAL:
                self._add(found, "values", as_array(seen.total))
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
                self._add(found, name, as_array(tensor.to(torch.int64) if name == "multiplier" else tensor))
        total = self._seen[node.all_input_nodes[0].name].total
        bits = 53 if total is not None and total.dtype == torch.float64 else 24
        if isinstance(module, SpikingNeuron):
            self._add_neuron(node, module, found, bits)
        elif isinstance(module, Synapse):
            found["operation"] = _operation(module)
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
        self._add(found, "spikes", as_array(given_value(self._seen[node.name].spikes)))
        for name, values in (("gain", neuron.gain), ("bias", neuron.bias)):
            if values is not None:
                mantissa, exponent = mantissas(values)
                self._add(found, f"{name}_mantissa", mantissa)
                self._add(found, f"{name}_exponent", exponent)
        found["code"] |= code_settings(code)
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
            exact = is_exact_in_integers(neuron, self._seen[source.name], streams=streams, bits=bits)
            found["replay"] = "integers" if exact else "rounded"

    def _reason(self, source: fx.Node, code: SpikeCode) -> str | None:
        """Why neurons that read a node can't be replayed."""
        read = self._seen[source.name]
        if self._courses[source.name].carrier is Carrier.REAL:
            if source.op == "placeholder":
                return "it encodes the input"
            transfers = source.op == "call_module" and isinstance(
                self._network.get_submodule(str(source.target)), (TableTransfer, LeakyTransfer)
            )
            return "it fires on a function of the potential" if transfers else "it reads analog nodes"
        if not read.is_sum or (code.exact and finest(given_value(read.total)) < 0):
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
            return given_value(self._seen[source.name].total).shape[int(str(node.args[1]))]
        assert callable(target)
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._size)
        return target(*args, **kwargs)
