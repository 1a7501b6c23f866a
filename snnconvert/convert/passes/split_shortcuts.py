"""f(x) twice where spikes reach a synapse one way and a sum another, so that each way has its own neurons.

Spikes cost multiply-accumulates where a synapse reads them; a shortcut carries them to a sum one to one. With
neurons of their own on the same membrane, shortcuts and pools can carry more bits than synapses read. Holds
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from snnconvert.convert.elementwise import is_activation
from snnconvert.convert.graph_tools import tidy
from snnconvert.convert.names import LAYER, layer_name
from snnconvert.convert.ops import COPY, NORMALIZATION, ROLE, TIE, OpKind, is_leaky, kind_of, spike_operands
from snnconvert.convert.quantizers import grid_of

_CARRIERS = frozenset({OpKind.LAYOUT, OpKind.CONCAT, OpKind.MAX_POOL})
_SYNAPSES = frozenset({OpKind.SYNAPSE, OpKind.PRODUCT})


def split_shortcuts(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Gives activations that both synapses and others read a copy for the others, named "….shortcut"."""
    graph = graph_module.graph
    read = _spike_readers(graph)
    for node in list(graph.nodes):
        if _is_splittable(node):
            apart = [user for user in node.users if not _reads(user, node, read)]
            if apart and len(apart) < len(node.users):
                _split(graph, node, apart)
    return tidy(graph_module)


def _is_splittable(node: fx.Node) -> bool:
    kind = kind_of(node)
    if kind in (OpKind.RECTIFIER, OpKind.RELAY):
        return True
    if kind is not OpKind.FUNCTION or node.meta.get(ROLE) == NORMALIZATION or grid_of(node) is not None:
        return False
    return is_leaky(node) or is_activation(node)


def _spike_readers(graph: fx.Graph) -> set[fx.Node]:
    """Nodes through which spikes reach a synapse unchanged."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if kind_of(node) in _CARRIERS and any(_reads(user, node, found) for user in node.users):
            found.add(node)
    return found


def _reads(user: fx.Node, node: fx.Node, carriers: set[fx.Node]) -> bool:
    if kind_of(user) in _SYNAPSES:
        return node in spike_operands(user)
    return user in carriers


def _split(graph: fx.Graph, node: fx.Node, apart: Sequence[fx.Node]) -> None:
    with graph.inserting_after(node):
        copy = graph.node_copy(node)
    copy.meta = {**node.meta, LAYER: f"{layer_name(node)}.shortcut", COPY: True}
    if TIE in node.meta:
        copy.meta[TIE] = f"{node.meta[TIE]}.shortcut"
    for user in apart:
        user.replace_input_with(node, copy)
