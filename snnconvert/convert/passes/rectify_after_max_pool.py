"""maxpool(f(x)) = f(maxpool(x)) for a monotone f: the neuron moves behind the pool. Holds exactly."""

from __future__ import annotations

from torch import fx

from snnconvert.convert.graph_tools import tidy
from snnconvert.convert.ops import OpKind, kind_of, rectified_linear


def rectify_after_max_pool(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Moves a rectifier that only feeds a max-pool behind it, so that the pool sees membrane potentials."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        rectifier = node.args[0] if node.args else None
        if kind_of(node) is not OpKind.MAX_POOL or not isinstance(rectifier, fx.Node):
            continue
        if rectifier.target is rectified_linear and len(rectifier.users) == 1:
            _swap(graph, node, rectifier)
    return tidy(graph_module)


def _swap(graph: fx.Graph, pool: fx.Node, rectifier: fx.Node) -> None:
    with graph.inserting_after(pool):
        behind = graph.call_function(rectified_linear, (pool, rectifier.args[1]))
    behind.meta = {**rectifier.meta, "val": pool.meta.get("val")}
    pool.replace_all_uses_with(behind, delete_user_cb=lambda user: user is not behind)
    pool.args = (rectifier.args[0], *pool.args[1:])
    graph.erase_node(rectifier)
