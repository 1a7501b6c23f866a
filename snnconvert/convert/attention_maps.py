"""Attention maps: outputs of a softmax whose spikes nothing but products of two activations read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of

aten = torch.ops.aten
CODES = {"log2": "log", "log-sqrt2": "log:base=sqrt2"}
_SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default, aten._safe_softmax.default})


@dataclass(frozen=True)
class AttentionMaps:
    """What is found among the sites of a plan.

    Attributes:
        families: families of sites that are attention maps and nothing else.
        refused: of the other sites behind a softmax, why they aren't, by layer name.
    """

    families: frozenset[int] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


def is_softmax_output(node: fx.Node) -> bool:
    """Whether a node's values are those of a softmax, moved by layouts or set to 0 in places."""
    if node.target in _SOFTMAX:
        return True
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return False
    keeps = kind_of(node) is OpKind.LAYOUT or (node.target is aten.masked_fill.Scalar and node.args[2] in (0, 0.0))
    return keeps and is_softmax_output(source)


def find_attention_maps(
    nodes: Mapping[str, fx.Node], families: Mapping[str, int], readers: Mapping[int, Collection[fx.Node]]
) -> AttentionMaps:
    """The families whose words may number their value, since only products read them.

    Args:
        nodes: the nodes that have sites, by name.
        families: the family of each.
        readers: the synapses that read each family's spikes.
    """
    members: dict[int, list[fx.Node]] = {}
    for name, node in nodes.items():
        members.setdefault(families[name], []).append(node)
    found: set[int] = set()
    refused: dict[str, str] = {}
    for family, sites in members.items():
        outputs = [node for node in sites if is_softmax_output(node)]
        if not outputs:
            continue
        reason = _refusal(len(outputs) < len(sites), readers.get(family, ()))
        if reason is None:
            found.add(family)
        else:
            refused.update({layer_name(node): reason for node in outputs})
    return AttentionMaps(frozenset(found), refused)


def _refusal(is_shared: bool, readers: Collection[fx.Node]) -> str | None:
    if is_shared:
        return "other values share its threshold"
    if any(kind_of(node) is not OpKind.PRODUCT for node in readers):
        return "a layer with weights reads it"
    return None


def attention_notes(code: str, maps: int, refused: Mapping[str, str]) -> tuple[str, ...]:
    """For the plan and the report: how many attention maps fire in a code, and why others don't.

    Args:
        code: the setting ``attention_code``.
        maps: how many do.
        refused: why others don't, by layer name.
    """
    if maps == 0 and not refused:
        return (f"attention_code {code} changes nothing: no product of two activations reads a softmax",)
    counts = Counter(refused.values())
    others = "; ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
    ending = f", uniform where {others}" if others else ""
    return (f"attention maps in {code} code at {maps} of {maps + len(refused)} softmax outputs{ending}",)
