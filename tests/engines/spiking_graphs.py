"""Random spiking graphs, written node by node without an ANN: codes, timing, scales and shapes as they come."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from snnconvert.neurons.current import IntegerScale, PoolGeometry, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.registry import make_code
from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry, Synapse

aten = torch.ops.aten
INPUT = (2, 6, 6)


@dataclass(frozen=True)
class Value:
    """What a node gives: its packed value on the images, the bound of its integers, and of spikes their code."""

    node: fx.Node
    data: Tensor
    bound: float = math.inf
    code: object = None

    @property
    def is_spikes(self):
        return self.code is not None

    @property
    def is_real(self):
        return math.isinf(self.bound)

    @property
    def is_exact(self):
        return self.bound <= (FLOAT32_EXACT if self.data.dtype == torch.float32 else 1 << 50)


class GraphBuilder:
    """Grows a random spiking graph, and runs it packed on the way.

    Args:
        random: a random.Random.
        images: [N, *INPUT].
        codes: gives a code without offset when called with the random numbers.
        input_codes: (bits, T) the input may have.
        reals: whether functions of real numbers may stand between currents and neurons.
        affine: whether neurons may have gains that aren't powers of two, and constant currents.
        wide: whether currents may be summed in float64.
    """

    def __init__(
        self, random, images, codes, *, input_codes=((8, 1), (4, 2), (1, 6)), reals=True, affine=True, wide=True
    ):
        self.random, self.codes, self.input_codes = random, codes, input_codes
        self.reals, self.affine, self.wide = reals, affine, wide
        self.generator = torch.Generator().manual_seed(random.getrandbits(32))
        self.graph, self.root = fx.Graph(), {}
        self.image = Value(self.graph.placeholder("x"), images)
        self.values = []

    def build(self, nodes):
        """A graph of about as many nodes, with a linear layer at its end."""
        self._keep(self._fire(self.image, PackedCode(*self.random.choice(self.input_codes))))
        for _ in range(nodes):
            self._keep(self._grown())
        last = self._fired(self.values[-1])
        flat = self._function(aten.flatten.using_ints, [last], last.node, 1, code=last.code)
        output = self._real(self._synapse(flat))
        self.graph.output(output.node)
        network = fx.GraphModule(self.root, self.graph)
        network.graph.eliminate_dead_code()
        network.graph.lint()
        network.recompile()
        return network

    def _keep(self, value):
        if value is not None and (value.is_real or value.is_exact):
            self.values.append(value)

    def _pick(self, *, among=None):
        """One of the values so far, more likely a late one."""
        values = self.values if among is None else [value for value in self.values if among(value)]
        return self.random.choice([*values[-3:], self.random.choice(values)]) if values else None

    def _grown(self):
        makers = [self._grow_neuron, self._grow_synapse, self._grow_scale, self._grow_pool, self._grow_max_pool]
        makers += [self._grow_sum, self._grow_concat, self._grow_layout, self._grow_synapse]
        return self.random.choice(makers + ([self._grow_real] if self.reals else []))()

    def _grow_neuron(self):
        return self._fired(self._pick())

    def _grow_synapse(self):
        return self._synapse(self._fired(self._pick()))

    def _grow_scale(self):
        value = self._pick(among=lambda v: not v.is_real)
        multiplier = torch.tensor(float(self.random.choice([1, 2, 5, 64])))
        return self._module(
            "scale", IntegerScale(multiplier, wide=self.wide and self._coin()), value, value.bound * float(multiplier)
        )

    def _grow_pool(self):
        value = self._pick(among=lambda v: not v.is_real and min(v.data.shape[2:]) > 2)
        if value is None:
            return None
        if self._coin():
            geometry, elements = PoolGeometry(dims=(2, 3), keepdim=True), math.prod(value.data.shape[2:])
        else:
            geometry, elements = PoolGeometry((2, 2), (2, 2), (self.random.randint(0, 1),) * 2), 4
        multiplier = self.random.randint(1, 3)
        pool = SumPool(torch.tensor(multiplier), geometry, wide=self.wide and self._coin())
        return self._module("pool", pool, value, value.bound * elements * multiplier)

    def _grow_max_pool(self):
        value = self._pick(among=lambda v: not v.is_real and min(v.data.shape[2:]) > 2)
        if value is None:
            return None
        window = self.random.choice([([2, 2], [2, 2], [0, 0]), ([3, 3], [1, 1], [1, 1]), ([3, 3], [2, 2], [1, 1])])
        source = value.node
        return self._function(aten.max_pool2d.default, [value], source, *window, bound=value.bound)

    def _grow_sum(self):
        one = self._pick(among=lambda v: not v.is_spikes)
        if one is None:
            return None
        other = self._pick(
            among=lambda v: v.data.shape == one.data.shape and v.is_real == one.is_real and v.node is not one.node
        )
        if other is None:
            return None
        return self._function(aten.add.Tensor, [one, other], one.node, other.node, bound=one.bound + other.bound)

    def _grow_concat(self):
        one = self._pick()
        others = [v for v in self.values if v.data.shape[2:] == one.data.shape[2:] and v.is_real == one.is_real]
        parts = [one, *(self.random.choice(others) for _ in range(self.random.randint(1, 2)))]
        codes = {dataclasses.replace(v.code, offset=0) if v.is_spikes else None for v in parts}
        if None not in codes and len(codes) > 1:
            return None
        code = max((v.code for v in parts), key=lambda c: c.offset) if None not in codes else None
        bound = max(value.bound for value in parts)
        return self._function(aten.cat.default, parts, [v.node for v in parts], 1, bound=bound, code=code)

    def _grow_layout(self):
        value = self._pick()
        channels = value.data.shape[1]
        kept = {"bound": value.bound, "code": value.code}
        moves = [
            (aten.constant_pad_nd.default, [self.random.randint(0, 2) for _ in range(4)]),
            (aten.flip.default, [2]),
            (aten.permute.default, [0, 1, 3, 2]),
            (aten.slice.Tensor, 1, 0, max(channels - 1, 1)),
        ]
        target, *arguments = self.random.choice(moves)
        return self._function(target, [value], value.node, *arguments, **kept)

    def _grow_real(self):
        value = self._pick(among=lambda v: not v.is_spikes and not v.is_real) or self._pick()
        value = value if value.is_real else self._real(value)
        target, *arguments = self.random.choice([(aten.gelu.default,), (aten.softmax.int, 1), (aten.tanh.default,)])
        return self._function(target, [value], value.node, *arguments)

    def _coin(self):
        return self.random.random() < 0.3

    def _fired(self, value):
        return value if value.is_spikes else self._fire(value, self.codes(self.random))

    def _fire(self, value, code):
        largest = max(float(value.data.abs().max()), 1e-3)
        gain = torch.tensor(code.largest_value / largest * self.random.choice([0.5, 1.0, 2.5]))
        if not self.affine or self.random.random() < 0.7:  # coarse gains put potentials on ties
            gain = torch.exp2(gain.log2().round())
        shape = (value.data.shape[1], 1, 1)
        if self.affine and self._coin():
            gain = gain * torch.empty(shape).uniform_(-1.5, 1.5, generator=self.generator)
        bias = (
            torch.empty(shape).normal_(generator=self.generator) * largest / 4 if self.affine and self._coin() else None
        )
        if float(value.data.min()) < 0 or self._coin():
            if code.has_sign:
                code = dataclasses.replace(code, signed=True)
            else:
                code = dataclasses.replace(code, offset=self.random.randint(0, math.floor(code.largest_value)))
        ceiling = self.random.randint(0, math.ceil(code.maximum)) if self._coin() else None
        neuron = SpikingNeuron(code, gain, torch.tensor(1.0), bias, ceiling=ceiling)
        return self._module("neuron", neuron, value, max(map(abs, code.extremes)), code)

    def _synapse(self, value):
        inputs = value.data.shape[1]
        geometry = self._geometry(value.data) if value.data.dim() == 4 else None
        kernel = () if geometry is None else (self.random.choice([1, 3]),) * 2
        outputs = self.random.choice([2, 4])
        groups = 1 if geometry is None else geometry.groups
        weight = torch.randint(-7, 8, (outputs, inputs // groups, *kernel), generator=self.generator)
        low, high = value.code.extremes
        synapse = Synapse(
            weight,
            torch.randint(-60, 61, (outputs,), generator=self.generator),
            torch.full((outputs,), self.random.choice([1, 1, 3, 1 << 18] if self.wide else [1, 2, 3])),
            torch.rand(outputs, generator=self.generator) * 1e-3,
            geometry=geometry,
            weight_bits=4,
            word_range=(min(low, -int(value.bound)), max(high, int(value.bound))),
            wide=self.wide and self._coin(),
        )
        return self._module("synapse", synapse, value, float(synapse.bound().max()))

    def _geometry(self, data):
        stride, dilation = self.random.choice([(1, 1), (1, 2), (2, 1)])
        groups = 2 if data.shape[1] % 2 == 0 and self._coin() else 1
        return ConvGeometry((stride,) * 2, (dilation,) * 2, (dilation,) * 2, groups)

    def _real(self, value):
        unit = torch.tensor(3.0 / max(float(value.data.abs().max()), 1.0), dtype=torch.float64)
        return self._module("real", ToReal(unit), value, math.inf)

    def _module(self, kind, module, value, bound, code=None):
        name = f"{kind}{len(self.root)}"
        self.root[name] = module
        node = self.graph.call_module(name, (value.node,))
        node.meta["layer"] = name
        return Value(node, module(value.data), bound, code)

    def _function(self, target, values, *arguments, bound=math.inf, code=None):
        node = self.graph.call_function(target, arguments)
        data = dict(zip((value.node for value in values), (value.data for value in values), strict=True))
        args = fx.map_arg(arguments, lambda source: data[source])
        if code is not None and math.isinf(bound):
            bound = values[0].bound
        return Value(node, target(*args), bound, code)


def random_graph(random, images, codes, nodes=14, **settings):
    """A random spiking graph for images [N, *INPUT]."""
    with torch.no_grad():
        return GraphBuilder(random, images, codes, **settings).build(nodes)


def packed_codes(random):
    """Any packed code."""
    bits = random.randint(1, 8)
    return PackedCode(bits, random.randint(1, 8 // bits))


def any_codes(random):
    """A code of any kind, most often one of two, so that some meet in step."""
    steps = random.choice([3, 4])
    kinds = [("packed", 2, steps), ("if", 1, steps), ("if", 2, steps), ("lif", 1, steps), ("if:reset=hard", 1, steps)]
    kinds += [("ternary", 1, steps), ("multithreshold", 3, steps), ("differential", 3, steps)]
    kinds += [("spikepack", 1, steps), ("spikepack:tau=2", 1, steps)]
    return make_code(*random.choice(kinds))
