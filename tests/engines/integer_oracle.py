"""An independent simulator of saved spiking networks: integers in numpy, spike by spike, from the folder's two files.

It shares no code with the package. Weights meet single spikes in int64; what a neuron's membrane holds is a
Python integer in units of 2^-160 of the code's step, so that nothing is rounded but by firing. Only where a
window's integers are float32, the potential (v + β)·g is that of float32, as the format says.
"""

import itertools
import json
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from stored_tensors import read_tensors

ONE = 1 << 160  # a step Δ of a code, as a membrane counts it


@dataclass
class Train:
    """Spikes: [N, ...] int64 of every step, from the tick ``start`` on, and the offset they are counted from.

    ``shift`` bits are what the membrane of a receiver grows by at every step: b for digits, 0 for counts.
    """

    steps: list
    offset: np.ndarray
    shift: int
    start: int

    def each(self, function):
        return replace(self, steps=[function(step) for step in self.steps], offset=function(self.offset))

    def current(self):
        return Current(self.steps, -self.offset, self.shift, self.start, whole=bool(self.shift))


@dataclass
class Current:
    """Weighted sums of every step's spikes, and what enters once beside them.

    A ``whole`` current is known only once all its steps have come, any other is an estimate at every step. Totals
    are float32 but for those of running maxima, which are ``double``.
    """

    steps: list
    constant: np.ndarray
    shift: int
    start: int
    whole: bool
    double: bool = False

    def __post_init__(self):
        self.whole = self.whole or len(self.steps) == 1

    @property
    def end(self):
        return self.start + len(self.steps)

    @property
    def timing(self):
        return self.start, len(self.steps), self.shift, self.whole

    def each(self, function):
        return replace(self, steps=[function(step) for step in self.steps], constant=function(self.constant))

    def total(self):
        """The membrane after the whole window: v ← 2^b·v + W·s_t step by step, then what enters once."""
        membrane = 0
        for step in self.steps:
            membrane = (membrane << self.shift if self.shift else membrane) + step
        return membrane + self.constant

    def at_once(self, tick):
        return Current([self.total()], np.zeros_like(self.constant), 0, tick, whole=True, double=self.double)


class Oracle:
    """Runs the network of a folder.

    Attributes:
        trains: spikes [T, N, ...] of every neuron layer, after a run.
    """

    def __init__(self, folder):
        graph = json.loads((folder / "graph.json").read_text())
        self.nodes, self.modules = graph["nodes"], graph["modules"]
        self.tensors = read_tensors(folder)
        self.trains = {}

    def run(self, images, *, window=False):
        """The network's output, float32.

        Args:
            images: float32 [N, ...].
            window: whether neurons that count spikes wait for their whole input.
        """
        self.window, values = window, {}
        for node in self.nodes:
            arguments = [self._resolved(argument, values) for argument in node["args"]]
            if node["op"] == "placeholder":
                values[node["name"]] = images
            elif node["op"] == "call_module":
                values[node["name"]] = self._module(node, *arguments)
            elif node["op"] == "call_function":
                values[node["name"]] = self._function(node["target"], arguments)
            else:
                assert node["op"] == "output", node
                return arguments[0]
        raise AssertionError("no output")

    def _resolved(self, argument, values):
        if isinstance(argument, list):
            return [self._resolved(item, values) for item in argument]
        if isinstance(argument, dict):
            ((kind, content),) = argument.items()
            return values[content] if kind == "node" else content
        return argument

    def _tensor(self, node, name):
        return self.tensors.get(f"{node['target']}.{name}")

    def _module(self, node, source):
        settings = self.modules[node["target"]]
        return getattr(self, f"_{settings['kind']}")(node, settings, source)

    def _neuron(self, node, settings, source):
        bits, T, offset, signed, ceiling = self._tensor(node, "digits").tolist()
        counts = settings["neuron"] == "if"
        assert not signed
        assert counts or settings["neuron"] == "packed"
        gain, bias = self._tensor(node, "gain"), self._tensor(node, "bias")
        source = as_current(source)
        if isinstance(source, np.ndarray):  # the image itself, or real numbers
            drives, start = [in_ones((source if bias is None else source + bias) * gain)], 1
        elif counts and not self.window and not source.whole and len(source.steps) == T:
            assert bias is None
            steps, start = [T * step + source.constant for step in source.steps], source.start
            drives = [step.astype(object) * in_ones(gain) for step in steps]
        else:
            drives, start = [self._driven(source, gain, bias)], source.end
        if len(drives) == 1:
            drives = [np.minimum(drives[0], ceiling * ONE)] * T
        steps = (count_spikes if counts else fire_digits)(drives, bits, offset, ceiling + offset)
        self.trains[node.get("meta", {}).get("layer", node["name"])] = np.stack(steps)
        return Train(steps, np.full(steps[0].shape, offset), 0 if counts else bits, start)

    @staticmethod
    def _driven(source, gain, bias):
        total = source.total()
        if source.double:
            assert bias is None
            return total.astype(object) * in_ones(gain)
        potential = total.astype(np.float32)
        assert (potential == total).all()
        return in_ones((potential if bias is None else potential + bias) * gain)

    def _synapse(self, node, settings, source):
        weight, geometry = self._tensor(node, "weight").astype(np.int64), settings["geometry"]
        axis = -1 if geometry is None else 1
        multiplier = self._tensor(node, "multiplier").astype(np.int64)
        bias = self._tensor(node, "bias").astype(np.int64)

        def weighted(step):
            summed = step @ weight.T if geometry is None else convolved(step, weight, **geometry)
            return summed * along(multiplier, axis, summed.ndim)

        current = source.current().each(weighted)
        return replace(current, constant=current.constant + along(bias * multiplier, axis, current.constant.ndim))

    def _integer_scale(self, node, settings, source):
        multiplier = self._tensor(node, "multiplier").astype(np.int64)
        return as_current(source).each(lambda step: step * multiplier)

    def _sum_pool(self, node, settings, source):
        multiplier, geometry = self._tensor(node, "multiplier").astype(np.int64), settings["geometry"]

        def pooled(step):
            if geometry["dims"]:
                return step.sum(tuple(geometry["dims"]), keepdims=geometry["keepdim"])
            return slid(step, geometry["kernel"], geometry["stride"], geometry["padding"], 0).sum(0)

        return as_current(source).each(lambda step: pooled(step) * multiplier)

    def _to_real(self, node, settings, source):
        """x = u·c."""
        current, unit = as_current(source), self._tensor(node, "unit")
        self.readout = current.total()
        if not current.double:  # only a network without wide sums is simple enough to be read here
            assert not any(settings.get("wide") for settings in self.modules.values())
            assert np.abs(self.readout).max(initial=0) <= 1 << 24
            return self.readout.astype(np.float32) * unit.astype(np.float32)
        return (self.readout.astype(np.float64) * unit).astype(np.float32)

    def _function(self, target, arguments):
        name, rest = target.split(".")[1], arguments[1:]
        if name == "sym_size":
            value = arguments[0]
            return len(value if isinstance(value, np.ndarray) else value.steps[0])
        if name == "mul":
            return arguments[0] * arguments[1]
        if name in ("add", "cat"):
            return joined(name, arguments[:2] if name == "add" else arguments[0], rest)
        if name.startswith("max_pool"):
            return self._max_pool(as_current(arguments[0]), int(name[-2]), *rest)
        if isinstance(arguments[0], np.ndarray):
            return LAYOUTS[name](*arguments)
        return arguments[0].each(lambda step: LAYOUTS[name](step, *rest))

    def _max_pool(self, current, rank, kernel, stride=(), padding=0):
        """Of the total, or of its estimates (T/t)·Σx + c: what t/T times their maximum grows by at every step."""
        sizes = [size if isinstance(size, list) else [size] * rank for size in (kernel, stride or kernel, padding)]

        def largest(values):
            return slid(values, *sizes, -(1 << 200) if values.dtype == object else np.iinfo(np.int64).min).max(0)

        if self.window or current.whole:
            pooled = largest(current.total())
            return Current([pooled], np.zeros_like(pooled), 0, current.end - 1, whole=True, double=current.double)
        T, total, told, steps = len(current.steps), 0, 0, []
        for t, step in enumerate(current.steps, start=1):
            total = total + step
            estimate = largest((T * total + t * current.constant).astype(object)) * Fraction(1, T)
            steps.append(estimate - told)
            told = estimate
        return Current(steps, np.zeros_like(told), 0, current.start, whole=False, double=True)


def joined(name, parts, rest):
    """A sum or a concat: step by step where all parts are in step, else of their totals once all are complete."""

    def join(values):
        if name == "add":
            return values[0] + values[-1]
        kind = np.result_type(*values)
        return np.concatenate([value.astype(kind) for value in values], rest[0] if rest else 0)

    trains = [part for part in parts if isinstance(part, Train)]
    if name == "cat" and len(trains) == len(parts) and len({(len(part.steps), part.shift) for part in trains}) == 1:
        steps = [join(values) for values in zip(*(part.steps for part in parts), strict=True)]
        offset = join([part.offset for part in parts])
        return replace(parts[0], steps=steps, offset=offset, start=max(part.start for part in parts))
    currents = [as_current(part) for part in parts]
    if len({current.timing for current in currents}) > 1:
        last = max(current.end for current in currents) - 1
        currents = [current.at_once(last) for current in currents]
    steps = [join(values) for values in zip(*(current.steps for current in currents), strict=True)]
    double = any(current.double for current in currents)
    return replace(currents[0], steps=steps, constant=join([current.constant for current in currents]), double=double)


def fire_digits(drives, bits, offset, _):
    """Greedy digits, largest first: the largest digit whose value lies no more than half a step above the potential.

    A digit exactly half a step above it is fired only if the value it makes (zero point subtracted) is even.
    """
    potential, steps = drives[0] + offset * ONE, []
    for t in range(len(drives)):
        worth = 1 << bits * (len(drives) - 1 - t)
        digit = np.clip((2 * potential + ONE) // (2 * worth * ONE), 0, (1 << bits) - 1)
        is_tie = (2 * potential + ONE == 2 * digit * worth * ONE) & (digit > 0)
        digit = np.where(is_tie & ((digit * worth - offset) % 2 == 1), digit - 1, digit)
        potential = potential - digit * worth * ONE
        steps.append(digit.astype(np.int64))
    return steps


def count_spikes(drives, bits, offset, most):
    """Integrate and fire with soft reset, from half a threshold on: in T-ths of Δ, where θ = T.

    Spikes beyond ``most`` are not sent.
    """
    threshold, steps, left = len(drives) * ONE, [], most
    membrane = threshold // 2
    for drive in drives:
        membrane = membrane + drive + offset * ONE
        fired = np.clip(membrane // threshold, 0, (1 << bits) - 1)
        membrane = membrane - fired * threshold
        steps.append(np.minimum(fired, left).astype(np.int64))
        left = left - steps[-1]
    return steps


def in_ones(values):
    """Floats as integers of 1 / ONE each."""

    def scaled(value):
        exact = Fraction(float(value)) * ONE
        assert exact.denominator == 1
        return int(exact)

    return np.frompyfunc(scaled, 1, 1)(values)


def as_current(value):
    return value.current() if isinstance(value, Train) else value


def along(values, axis, dims):
    """[O] values to broadcast along one axis."""
    return values.reshape([-1 if dim == axis % dims else 1 for dim in range(dims)])


def slid(values, kernel, stride, padding, filling, dilation=None):
    """[K, N, C, ...]: the values every position of a window sees, for each of its K elements."""
    dilation = dilation or [1] * len(kernel)
    padded = bordered(values, [(0, 0), (0, 0), *((p, p) for p in padding)], filling)
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    views = []
    for place in itertools.product(*map(range, kernel)):
        cut = [
            slice(p * d, p * d + (size - 1) * s + 1, s)
            for p, d, size, s in zip(place, dilation, sizes, stride, strict=True)
        ]
        views.append(padded[(slice(None), slice(None), *cut)])
    return np.stack(views)


def bordered(values, widths, filling):
    """Like np.pad, which would put numpy's numbers among Python's."""
    sizes = [size + sum(width) for size, width in zip(values.shape, widths, strict=True)]
    wider = np.full(sizes, filling, values.dtype)
    wider[tuple(slice(low, low + size) for size, (low, _) in zip(values.shape, widths, strict=True))] = values
    return wider


def convolved(values, weight, stride, padding, dilation, groups, transposed=False, output_padding=()):
    """A convolution of integers; a transposed one spreads its input and slides the kernels backwards over it."""
    kernel = weight.shape[2:]
    if transposed:
        values = spread(values, stride)
        around = [(d * (k - 1) - p, d * (k - 1) - p + o)
                  for d, k, p, o in zip(dilation, kernel, padding, output_padding, strict=True)]  # fmt: skip
        values = bordered(values, [(0, 0), (0, 0), *around], 0)
        weight = np.flip(weight, tuple(range(2, weight.ndim)))
        stride, padding = [1] * len(kernel), [0] * len(kernel)
    flat = weight.reshape(*weight.shape[:2], -1)
    outputs = []
    for part, kernels in zip(np.split(values, groups, 1), np.split(flat, groups, 0), strict=True):
        outputs.append(np.einsum("knc...,ock->no...", slid(part, kernel, stride, padding, 0, dilation), kernels))
    return np.concatenate(outputs, 1)


def spread(values, stride):
    """Values with stride − 1 zeros between neighbours."""
    sizes = [(size - 1) * s + 1 for size, s in zip(values.shape[2:], stride, strict=True)]
    wide = np.zeros((*values.shape[:2], *sizes), dtype=values.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in stride))] = values
    return wide


def _flattened(values, start=0, end=-1):
    start, end = start % values.ndim, end % values.ndim
    return values.reshape(*values.shape[:start], -1, *values.shape[end + 1 :])


def _padded(values, widths, *_):
    pairs = [tuple(widths[i : i + 2]) for i in range(0, len(widths), 2)]
    return bordered(values, [(0, 0)] * (values.ndim - len(pairs)) + pairs[::-1], 0)


def _sliced(values, dim=0, start=None, end=None, step=1):
    return values[(slice(None),) * (dim % values.ndim) + (slice(start, end, step),)]


LAYOUTS = {
    "view": lambda values, shape: values.reshape(shape),
    "reshape": lambda values, shape: values.reshape(shape),
    "flatten": _flattened,
    "permute": lambda values, order: values.transpose(order),
    "transpose": lambda values, one, two: values.swapaxes(one, two),
    "pad": _padded,
    "constant_pad_nd": _padded,
    "slice": _sliced,
    "contiguous": lambda values, *_: values,
    "clone": lambda values, *_: values,
    "squeeze": lambda values, dims: values.squeeze(tuple(dims) if isinstance(dims, list) else dims),
    "unsqueeze": np.expand_dims,
    "flip": np.flip,
}
