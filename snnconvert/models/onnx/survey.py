"""A look over all nodes before any is built: how many there will be, how deep, and which are unsupported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import FunctionProto, ModelProto, NodeProto

from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx.attributes import subgraphs
from snnconvert.models.onnx.decompose import is_decomposed
from snnconvert.models.onnx.limits import DEEPEST_NESTING, MOST_NODES
from snnconvert.models.onnx.reasons import reason_against
from snnconvert.models.onnx.table import find_op

FunctionKey = tuple[str, str, str]
_INLINED = frozenset({"If", "Loop"})


def plain_domain(domain: str) -> str:
    """The domain's name; ONNX's own is empty."""
    return "" if domain == "ai.onnx" else domain


def function_key(node: NodeProto) -> FunctionKey:
    """What a node calls, if there is a function of that name."""
    return plain_domain(node.domain), node.op_type, node.overload


def functions_of(model: ModelProto) -> dict[FunctionKey, FunctionProto]:
    """A model's own functions."""
    return {(plain_domain(item.domain), item.name, item.overload): item for item in model.functions}


@dataclass
class Survey:
    """What the nodes of a model ask for.

    Attributes:
        file: The file's name.
        functions: The model's functions.
        missing: Operators without a form: (domain, name, opset) and the first node that uses each.
    """

    file: str
    functions: Mapping[FunctionKey, FunctionProto]
    missing: dict[tuple[str, str, int], str] = field(default_factory=dict)
    _sizes: dict[FunctionKey, int] = field(default_factory=dict)
    _open: list[FunctionKey] = field(default_factory=list)

    def check(self, nodes: Iterable[NodeProto], opsets: Mapping[str, int]) -> None:
        """Walks the nodes of the main graph.

        Raises:
            InputError: if inlining would give too many nodes, nest too deeply or never end.
            ConversionError: naming all operators that are not supported.
        """
        self._size(nodes, opsets, 0)
        if self.missing:
            raise ConversionError(self._message())

    def refused(self, nodes: Sequence[NodeProto], opsets: Mapping[str, int]) -> set[int]:
        """Indices of the nodes that are, or hold inside, unsupported operators."""
        found = set()
        for index, node in enumerate(nodes):
            alone = Survey(self.file, self.functions)
            alone._size([node], opsets, 0)
            if alone.missing:
                found.add(index)
        return found

    def _size(self, nodes: Iterable[NodeProto], opsets: Mapping[str, int], depth: int) -> int:
        if depth > DEEPEST_NESTING:
            raise InputError(
                f"{self.file}: functions or subgraphs are nested more than {DEEPEST_NESTING} deep: "
                "inline them when exporting"
            )
        total = 0
        for node in nodes:
            total += self._node_size(node, opsets, depth)
            if total > MOST_NODES:
                raise InputError(
                    f"{self.file}: more than {MOST_NODES} nodes once functions are inlined "
                    f"(at {node.op_type} '{node.name}'): no network needs so many"
                )
        return total

    def _node_size(self, node: NodeProto, opsets: Mapping[str, int], depth: int) -> int:
        key = function_key(node)
        if key in self.functions:
            return self._function_size(key, depth)
        domain = plain_domain(node.domain)
        opset = opsets.get(domain, 1)
        known = find_op(domain, node.op_type, opset) is not None or is_decomposed(domain, node.op_type)
        if not known and not (not domain and node.op_type in _INLINED):
            self.missing.setdefault((domain, node.op_type, opset), node.name or (node.output[0] if node.output else ""))
        inner = sum(self._size(graph.node, opsets, depth + 1) for graph in subgraphs(node.attribute))
        return 1 + inner

    def _function_size(self, key: FunctionKey, depth: int) -> int:
        if key in self._open:
            raise InputError(f"{self.file}: the function {key[1]} calls itself: the file is damaged, export it again")
        if key not in self._sizes:
            function = self.functions[key]
            self._open.append(key)
            opsets = {plain_domain(item.domain): int(item.version) for item in function.opset_import}
            self._sizes[key] = self._size(function.node, opsets, depth + 1)
            self._open.pop()
        return self._sizes[key]

    def _message(self) -> str:
        entries = []
        for (domain, name, opset), node in sorted(self.missing.items()):
            reason = reason_against(domain, name)
            full = f"{domain}.{name}" if domain else name
            entries.append(f"{full} ('{node}', opset {opset})" + (f": {reason}" if reason else ""))
        return (
            f"{self.file}: {len(entries)} operator{'s are' if len(entries) > 1 else ' is'} not supported: "
            f"{'; '.join(entries)}. Export the network without them, or replace them by supported ones"
        )
