"""Carriers: whether a node's value travels as spikes, as integer current or as a real number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import fx

from snnconvert.convert.arguments import as_int, as_ints, with_defaults
from snnconvert.convert.ops import CONVOLUTIONS, LINEAR, NEAREST, TRANSPOSED, OpKind, kind_of
from snnconvert.convert.shapes import hinted_shape, is_fixed

aten = torch.ops.aten


class Carrier(Enum):
    """How a value travels through the converted network."""

    SPIKES = "spikes"  # values of one code and one step Δ
    CURRENT = "current"  # integer counts in a unit per channel
    REAL = "real"  # the ANN's own numbers


@dataclass(frozen=True)
class Flow:
    """A value's carrier.

    Attributes:
        carrier: how it travels.
        family: of spikes, the family of their sites.
        axis: of currents, the dimension of their channels.
        pools: of currents, how many average pools they passed since their synapse or spikes.
    """

    carrier: Carrier
    family: int = -1
    axis: int = -1
    pools: int = 0


REAL = Flow(Carrier.REAL)
_POOL_RANKS: dict[object, int] = {aten.max_pool1d.default: 3, aten.max_pool2d.default: 4, aten.max_pool3d.default: 5}
_RESHAPES = frozenset(
    {
        aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.squeeze.default,
        aten.squeeze.dim, aten.squeeze.dims,
    }
)  # fmt: skip


def infer_flows(graph: fx.Graph, families: Mapping[str, int], synapses: frozenset[str]) -> dict[str, Flow]:
    """Infers the carrier of every node's value.

    Args:
        graph: the canonical graph.
        families: family of each rectifier that becomes a neuron, by node name.
        synapses: names of the nodes that become synapses.

    Returns:
        Node name to Flow, for every node.
    """
    flows: dict[str, Flow] = {}
    for node in graph.nodes:
        kind = kind_of(node)
        if node.name in families:
            flows[node.name] = Flow(Carrier.SPIKES, family=families[node.name])
        elif node.name in synapses:
            flows[node.name] = Flow(Carrier.CURRENT, axis=_channel_axis(node))
        else:
            flows[node.name] = _RULES[kind](node, flows) if kind in _RULES else REAL
    return flows


def _channel_axis(node: fx.Node) -> int:
    """The channels of a synapse's output; those of a product of activations all have the same unit."""
    rank = len(hinted_shape(node))
    is_image = node.target in CONVOLUTIONS or node.target in TRANSPOSED or (rank == 4 and node.target is not LINEAR)
    return 1 if is_image else rank - 1


def average_pool_divisor(node: fx.Node) -> int | None:
    """N of an average pool whose windows all hold N elements; None for unequal windows."""
    source = _source(node)
    if source is None:
        return None
    before, after = hinted_shape(source), hinted_shape(node)
    if node.target is aten.mean.dim:
        dims = reduced_dims(node)
        return None if 0 in dims or not is_fixed(source, dims) else math.prod(before[dim] for dim in dims)
    if len(before) != 4:
        return None
    if node.target is aten.adaptive_avg_pool2d.default:
        divisible = is_fixed(source, (2, 3)) and all(i % o == 0 for i, o in zip(before[2:], after[2:], strict=True))
        return math.prod(before[2:]) // math.prod(after[2:]) if divisible else None
    window = pool_window(node)
    if window.ceil_mode and not _are_whole(window, source):
        return None
    elements = math.prod(window.kernel)
    if window.divisor is not None:
        return elements if window.divisor == elements else None
    if any(window.padding) and not window.count_padding:
        return None
    return elements


def _are_whole(window: PoolWindow, source: fx.Node) -> bool:
    """Whether no window reaches beyond the padded input, so that rounding their number up adds none."""
    sizes = zip(hinted_shape(source)[2:], window.kernel, window.stride, window.padding, strict=True)
    return is_fixed(source, (2, 3)) and all((size + 2 * pad - kernel) % step == 0 for size, kernel, step, pad in sizes)


def reduced_dims(node: fx.Node) -> tuple[int, ...]:
    """The non-negative dimensions a ``mean.dim`` node reduces."""
    source = _source(node)
    assert source is not None
    rank = len(hinted_shape(source))
    dims = node.args[1]
    listed = [as_int(dim) for dim in dims] if isinstance(dims, (list, tuple)) else list(range(rank))
    return tuple(sorted(dim % rank for dim in listed))


def sliced_channels(node: fx.Node, axis: int) -> slice | None:
    """Which channels a slice along their axis takes.

    None of other nodes, of slices that take nothing, and where a bound is only known in a call.
    """
    if node.target is not aten.slice.Tensor or hinted_shape(node)[axis] == 0:
        return None
    dim, *bounds = with_defaults(node, 0, None, None, 1)
    fixed = all(bound is None or isinstance(bound, int) for bound in bounds)
    return slice(*bounds) if fixed and as_int(dim) % len(hinted_shape(node)) == axis else None


@dataclass(frozen=True)
class PoolWindow:
    """Arguments of an ``avg_pool2d`` node, sizes as pairs."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool
    count_padding: bool
    divisor: int | None


def pool_window(node: fx.Node) -> PoolWindow:
    """The window of an ``avg_pool2d`` node with every default filled in."""
    kernel, stride, padding, ceil_mode, count_padding, divisor = with_defaults(node, None, None, 0, False, True, None)
    return PoolWindow(
        kernel=as_ints(kernel, 2),
        stride=as_ints(stride or kernel, 2),
        padding=as_ints(padding, 2),
        ceil_mode=bool(ceil_mode),
        count_padding=bool(count_padding),
        divisor=None if divisor is None else as_int(divisor),
    )


def pooled_axis(node: fx.Node) -> int:
    """The channels of the spikes an average pool reads: axis 1, or the last one where that is pooled."""
    source = _source(node)
    assert source is not None
    return 1 if 1 not in _pooled_dims(node) else len(hinted_shape(source)) - 1


def _pooled_dims(node: fx.Node) -> tuple[int, ...]:
    return reduced_dims(node) if node.target is aten.mean.dim else (2, 3)


def _source(node: fx.Node) -> fx.Node | None:
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


def _layout(node: fx.Node, flows: Mapping[str, Flow]) -> Flow:
    source = _source(node)
    flow = flows[source.name] if source is not None else REAL
    if flow.carrier is Carrier.CURRENT and source is not None:
        return flow if _keeps_channels(node, source, flow.axis) else REAL
    return flow


def _keeps_channels(node: fx.Node, source: fx.Node, axis: int) -> bool:
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    before, after = hinted_shape(source), hinted_shape(node)
    if node.target in _RESHAPES:
        single = math.prod(before[2:]) == 1 == math.prod(after[2:]) and is_fixed(source, range(2, len(before)))
        return axis == 1 and before[:2] == after[:2] and single
    if node.target is aten.slice.Tensor:
        dim = as_int(with_defaults(node, 0)[0]) % len(before)
        return dim not in (0, axis) or sliced_channels(node, axis) is not None
    if node.target in NEAREST:
        return axis == 1
    if node.target in (aten.constant_pad_nd.default, aten.pad.default):
        return len(with_defaults(node)[0]) // 2 <= len(before) - 1 - axis
    return False


def _concat(node: fx.Node, flows: Mapping[str, Flow]) -> Flow:
    items = node.args[0]
    assert isinstance(items, (list, tuple))
    sources = [flows[item.name] for item in items if isinstance(item, fx.Node)]
    rank = len(hinted_shape(node))
    dim = as_int(with_defaults(node, 0)[0]) % rank
    if any(flow.carrier is Carrier.REAL for flow in sources):
        return REAL
    if all(flow.carrier is Carrier.SPIKES for flow in sources) and len({flow.family for flow in sources}) == 1:
        return sources[0]
    channels_first = all(flow.carrier is Carrier.SPIKES or flow.axis == 1 for flow in sources)
    pools = max(flow.pools for flow in sources)
    return Flow(Carrier.CURRENT, axis=1, pools=pools) if dim == 1 and channels_first else REAL


def _add(node: fx.Node, flows: Mapping[str, Flow]) -> Flow:
    operands = [arg for arg in node.args[:2] if isinstance(arg, fx.Node)]
    if len(operands) != 2 or node.kwargs or any(hinted_shape(arg) != hinted_shape(node) for arg in operands):
        return REAL
    sources = [flows[arg.name] for arg in operands]
    if any(flow.carrier is Carrier.REAL for flow in sources):
        return REAL
    currents = [flow for flow in sources if flow.carrier is Carrier.CURRENT] or [Flow(Carrier.CURRENT, axis=1)]
    if len({(flow.axis, flow.pools) for flow in currents}) > 1 or len(hinted_shape(node)) < 2:
        return REAL
    return currents[0]


def _max_pool(node: fx.Node, flows: Mapping[str, Flow]) -> Flow:
    source = _source(node)
    flow = flows[source.name] if source is not None else REAL
    if len(hinted_shape(node)) != _POOL_RANKS[node.target]:
        return REAL
    if flow.carrier is Carrier.SPIKES:
        return Flow(Carrier.CURRENT, axis=1)
    return flow if flow.carrier is Carrier.CURRENT and flow.axis == 1 else REAL


def _average_pool(node: fx.Node, flows: Mapping[str, Flow]) -> Flow:
    source = _source(node)
    flow = flows[source.name] if source is not None else REAL
    if source is None or flow.carrier is Carrier.REAL or average_pool_divisor(node) is None:
        return REAL
    dims = _pooled_dims(node)
    axis = flow.axis if flow.carrier is Carrier.CURRENT else pooled_axis(node)
    if axis in dims:
        return REAL
    kept = len(hinted_shape(node)) == len(hinted_shape(source))
    pools = flow.pools + 1 if flow.carrier is Carrier.CURRENT else 0
    return Flow(Carrier.CURRENT, axis=axis if kept else axis - sum(dim < axis for dim in dims), pools=pools)


_RULES: dict[OpKind, Callable[[fx.Node, Mapping[str, Flow]], Flow]] = {
    OpKind.LAYOUT: _layout,
    OpKind.CONCAT: _concat,
    OpKind.ADD: _add,
    OpKind.MAX_POOL: _max_pool,
    OpKind.AVERAGE_POOL: _average_pool,
}
