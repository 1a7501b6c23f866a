"""x∘s(x), s an inverse statistic of x: normalizations written out are marked as such. Nothing is computed differently.

A product or quotient of two activations is a normalization if one operand is a statistic of what the other comes
from: on its way it passed a reduction (mean, sum, variance, norm, …) and then an inversion (rsqrt, reciprocal, a
power below zero, or as a divisor), with nothing but arithmetic and layout in between. Gates are none: they pass a
synapse or a sigmoid. A softmax written out, exp(x) / sum(exp(x)), is none either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import fx

from snnconvert.convert.ops import NORMALIZATION, ROLE, OpKind, kind_of

aten = torch.ops.aten

_NAMED = frozenset(
    {
        aten.layer_norm.default, aten.native_layer_norm.default, aten.rms_norm.default, aten.group_norm.default,
        aten.native_group_norm.default, aten.instance_norm.default,
    }
)  # fmt: skip
_REDUCTIONS = frozenset(
    {
        aten.mean.default, aten.mean.dim, aten.sum.default, aten.sum.dim_IntList, aten.var.default, aten.var.dim,
        aten.var.correction, aten.std.default, aten.std.dim, aten.std.correction, aten.var_mean.default,
        aten.var_mean.dim, aten.var_mean.correction, aten.std_mean.dim, aten.std_mean.correction,
        aten.linalg_vector_norm.default, aten.norm.Scalar, aten.norm.ScalarOpt_dim, aten.amax.default,
        aten.amin.default, aten.max.dim, aten.min.dim, aten.avg_pool1d.default, aten.avg_pool2d.default,
        aten.avg_pool3d.default, aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool3d.default,
    }
)  # fmt: skip
_INVERSIONS = frozenset({aten.rsqrt.default, aten.reciprocal.default})
_PRODUCT, _QUOTIENT, _POWER = aten.mul.Tensor, aten.div.Tensor, aten.pow.Tensor_Scalar
_ARITHMETIC = frozenset(
    {
        _PRODUCT, _QUOTIENT, _POWER, aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.rsub.Tensor,
        aten.add.Scalar, aten.sub.Scalar, aten.mul.Scalar, aten.div.Scalar, aten.square.default, aten.sqrt.default,
        aten.abs.default, aten.neg.default, aten.clamp_min.default, aten.clamp.default, aten.maximum.default,
        aten.clamp_min.Tensor, aten.expand_as.default, aten._to_copy.default, aten.addcmul.default, aten.pad.default,
    }
)  # fmt: skip
_State = tuple[fx.Node, bool, bool]


def mark_normalizations(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Sets ``node.meta["role"]`` to "normalization" on every node between a value and its normalized form.

    Scales and shifts behind it are not part of it, unlike in ``aten.layer_norm`` and its like, which are marked too.
    """
    varying: set[fx.Node] = set()
    reduced: set[fx.Node] = set()
    finished: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        inputs = [source for source in node.all_input_nodes if source in varying]
        if node.op == "placeholder" or (inputs and isinstance(node.meta.get("val"), (torch.Tensor, tuple, list))):
            varying.add(node)
        if node.target in _REDUCTIONS or (inputs and _is_transparent(node) and all(i in reduced for i in inputs)):
            reduced.add(node)
        if node.target in _NAMED:
            node.meta[ROLE] = NORMALIZATION
            finished.add(node)
        elif node.target in (_PRODUCT, _QUOTIENT) and len(inputs) == 2:
            pattern = _Search(varying, reduced, finished).pattern(node)
            for member in pattern:
                member.meta[ROLE] = NORMALIZATION
            if pattern and node not in reduced:
                finished.add(node)  # a value in its own right: what follows is not about what it was made from
    return graph_module


class _Search:
    """Looks for the normalization that ends at one node."""

    def __init__(self, varying: set[fx.Node], reduced: set[fx.Node], finished: set[fx.Node]) -> None:
        self._varying, self._reduced, self._finished = varying, reduced, finished

    def pattern(self, node: fx.Node) -> set[fx.Node]:
        """The nodes of the normalization that ends here; empty if none does."""
        left, right = node.args[0], node.args[1]
        assert isinstance(left, fx.Node)
        assert isinstance(right, fx.Node)
        if node.target is _QUOTIENT:
            return self._with_statistic(node, left, right, inverted=True)
        return self._with_statistic(node, left, right, inverted=False) or self._with_statistic(
            node, right, left, inverted=False
        )

    def _with_statistic(self, node: fx.Node, value: fx.Node, statistic: fx.Node, *, inverted: bool) -> set[fx.Node]:
        origins = {state[0] for state in _reachable((value, False, False), self._behind)}
        origins = {origin for origin in origins if origin.target is not aten.exp.default}
        steps = _reachable((statistic, inverted, False), lambda state: self._behind_statistic(state, origins))
        shared = {state for state in steps if state[2] and state[0] in origins}
        if not shared:
            return set()
        sources = {state[0] for state in shared}
        between = {state[0] for state in _leading_to(steps, shared)}
        pattern = {node} | (between - sources) | self._paths(value, sources)
        return pattern | {member for source in sources for member in self._centering(source)}

    def _paths(self, value: fx.Node, sources: set[fx.Node]) -> set[fx.Node]:
        """Nodes from the sources to the value, without the sources."""
        steps = _reachable((value, False, False), lambda state: [] if state[0] in sources else self._behind(state))
        goals = {state for state in steps if state[0] in sources}
        return {state[0] for state in _leading_to(steps, goals)} - sources

    def _centering(self, source: fx.Node) -> set[fx.Node]:
        """The subtraction of the mean, if that is what gave the source."""
        if source.target is not aten.sub.Tensor or not all(isinstance(arg, fx.Node) for arg in source.args[:2]):
            return set()
        value, mean = source.args[:2]
        assert isinstance(value, fx.Node)
        assert isinstance(mean, fx.Node)
        path = self._paths(mean, {value}) if mean in self._reduced else set()
        return {source} | path if path else set()

    def _behind(self, state: _State) -> Iterable[_State]:
        node = state[0]
        if node in self._finished or not _is_transparent(node):
            return []
        return [(source, False, False) for source in node.all_input_nodes if source in self._varying]

    def _behind_statistic(self, state: _State, origins: set[fx.Node]) -> Iterable[_State]:
        node, inverted, was_reduced = state
        if node in self._finished or not _is_transparent(node) or (was_reduced and node in origins):
            return []
        now_reduced = was_reduced or (inverted and node.target in _REDUCTIONS)
        inverts = node.target in _INVERSIONS or (node.target is _POWER and _is_negative(node.args[1]))
        return [
            (source, inverted or inverts or (node.target is _QUOTIENT and source is node.args[1]), now_reduced)
            for source in node.all_input_nodes
            if source in self._varying
        ]


def _reachable(start: _State, behind: Callable[[_State], Iterable[_State]]) -> dict[_State, list[_State]]:
    """Every state behind one, with the states directly behind each."""
    found: dict[_State, list[_State]] = {}
    pending = [start]
    while pending:
        state = pending.pop()
        if state not in found:
            found[state] = list(behind(state))
            pending.extend(found[state])
    return found


def _leading_to(steps: dict[_State, list[_State]], goals: set[_State]) -> set[_State]:
    """The states from which a goal can be reached."""
    ahead: dict[_State, list[_State]] = {}
    for state, behind in steps.items():
        for source in behind:
            ahead.setdefault(source, []).append(state)
    return set(_reachable_from(goals, ahead))


def _reachable_from(starts: set[_State], ahead: dict[_State, list[_State]]) -> set[_State]:
    found: set[_State] = set()
    pending = list(starts)
    while pending:
        state = pending.pop()
        if state not in found:
            found.add(state)
            pending.extend(ahead.get(state, []))
    return found


def _is_transparent(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    target = node.target
    return target in _ARITHMETIC or target in _REDUCTIONS or target in _INVERSIONS or kind_of(node) is OpKind.LAYOUT


def _is_negative(exponent: object) -> bool:
    return isinstance(exponent, (int, float)) and exponent < 0
