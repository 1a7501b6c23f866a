"""One flat list of nodes: functions and decided branches are inlined, loops unrolled, constants computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto
from torch import Tensor

from snnconvert.errors import InputError
from snnconvert.models.onnx.attributes import parse, resolve, scopes_of
from snnconvert.models.onnx.branches import decided
from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.decompose import decomposed
from snnconvert.models.onnx.dtypes import BITS
from snnconvert.models.onnx.external import ExternalData
from snnconvert.models.onnx.folding import Folder
from snnconvert.models.onnx.limits import MOST_DECISIONS, MOST_NODES
from snnconvert.models.onnx.loops import Rounds, stacked
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.ordering import ordered
from snnconvert.models.onnx.survey import FunctionKey, function_key, plain_domain
from snnconvert.models.onnx.tensors import to_tensor


@dataclass(frozen=True)
class Frame:
    """Where the importer stands: the main graph, a function's body or a branch.

    Attributes:
        prefix: Put before names of values and nodes, so that they stay unique.
        scope: The network-wide name of every value that is visible here.
        opsets: Version by domain.
        given: Attributes the function was called with.
    """

    prefix: str
    scope: dict[str, str | None]
    opsets: Mapping[str, int]
    given: Mapping[str, AttributeProto] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """The network-wide name of a value defined here."""
        return f"{self.prefix}{name}"


@dataclass
class Flattener:
    """Collects the nodes that run, and the constants they read.

    Attributes:
        external: The file, and where its external data is read.
        functions: The model's functions.
        folder: Computes what follows from constants.
        inputs: What the file declares.
        nodes: The nodes that depend on an input, in order.
        constants: Tensors by network-wide name.
        narrow: Names of constants of less than 8 bits.
        decisions: Branches decided from shapes so far.
        unrolled: Nodes of loops' bodies, each as often as it runs.
        at: The node of the main graph that is being read.
    """

    external: ExternalData
    functions: Mapping[FunctionKey, FunctionProto]
    folder: Folder
    inputs: Sequence[OnnxInput]
    nodes: list[OnnxNode] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    narrow: set[str] = field(default_factory=set)
    decisions: int = 0
    unrolled: int = 0
    at: NodeProto | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        return str(self.external.path)

    def run_graph(self, graph: GraphProto, frame: Frame, *, nested: bool = False) -> None:
        """Adds a graph's constants and nodes; its values become visible in the frame's scope.

        Raises:
            InputError: if the graph breaks ONNX's rules.
            ConversionError: if a node can't be expressed.
        """
        if graph.sparse_initializer:
            raise InputError(f"{self.file}: sparse initializers are not supported: save the weights densely")
        self._add_initializers(graph, frame)
        own = {item.name for item in graph.initializer}
        known = own if nested else own | frame.scope.keys()
        self._run_nodes(ordered(graph.node, known, self.file, nested=nested), frame)

    def _add_initializers(self, graph: GraphProto, frame: Frame) -> None:
        seen: set[str] = set()
        for proto in graph.initializer:
            if not proto.name or proto.name in seen:
                raise InputError(f"{self.file}: the initializer '{proto.name}' has no name or is given twice")
            seen.add(proto.name)
            unique = frame.unique(proto.name)
            if BITS.get(proto.data_type, 8) < 8:
                self.narrow.add(unique)
            self.constants[unique] = to_tensor(proto, proto.name, self.external)
            frame.scope[proto.name] = unique

    def _run_nodes(self, nodes: Iterable[NodeProto], frame: Frame) -> None:
        for proto in nodes:
            if not frame.prefix:
                self.at = proto
            key = function_key(proto)
            if key in self.functions:
                self._inline(proto, self.functions[key], frame)
            elif proto.op_type == "If" and not plain_domain(proto.domain):
                self._take_branch(proto, frame)
            elif proto.op_type == "Loop" and not plain_domain(proto.domain):
                self._unroll(proto, frame)
            else:
                for node in decomposed(self._read(proto, frame)):
                    self._add(node)

    def _read(self, proto: NodeProto, frame: Frame) -> OnnxNode:
        name = proto.name or next((output for output in proto.output if output), proto.op_type)
        domain = plain_domain(proto.domain)
        attributes = resolve(proto, frame.given)
        node = OnnxNode(
            file=self.file,
            name=frame.unique(name),
            op_type=proto.op_type,
            domain=domain,
            opset=frame.opsets.get(domain, 1),
            inputs=tuple(self._visible(proto, item, frame) for item in proto.input),
            outputs=tuple(frame.unique(item) if item else None for item in proto.output),
            attributes=parse(attributes, name, self.external),
            scopes=scopes_of(proto),
        )
        frame.scope.update({item: frame.unique(item) for item in proto.output if item})
        return node

    def _visible(self, proto: NodeProto, name: str, frame: Frame) -> str | None:
        if not name:
            return None
        if name not in frame.scope:
            raise InputError(
                f"{self.file}: {proto.op_type} '{proto.name}' reads '{name}', which nothing computes: "
                "the file is damaged, export it again"
            )
        return frame.scope[name]

    def _add(self, node: OnnxNode) -> None:
        if node.op_type == "QuantizeLinear" and self.narrow.intersection(node.inputs):
            raise node.unsupported("quantization of activations to 4 bits or less is not supported")
        if all(name is None or name in self.constants for name in node.inputs):
            inputs = tuple(None if name is None else self.constants[name] for name in node.inputs)
            results = self.folder.fold(node, inputs)
            self.constants.update({name: value for name, value in zip(node.outputs, results, strict=False) if name})
        else:
            self.nodes.append(node)

    def _inline(self, proto: NodeProto, function: FunctionProto, frame: Frame) -> None:
        prefix = frame.unique(f"{proto.name or (proto.output[0] if proto.output else proto.op_type)}/")
        given = {item.name: item for item in function.attribute_proto} | resolve(proto, frame.given)
        arguments = [self._visible(proto, item, frame) for item in proto.input]
        names = list(function.input)
        scope = dict(zip(names, [*arguments, *[None] * (len(names) - len(arguments))], strict=False))
        opsets = {plain_domain(item.domain): int(item.version) for item in function.opset_import}
        inner = Frame(prefix, scope, opsets, given)
        where = f"{self.file}: function {function.name}"
        self._run_nodes(ordered(function.node, names, where), inner)
        for outside, inside in zip(proto.output, function.output, strict=False):
            if outside:
                frame.scope[outside] = self._result(inside, inner, where)

    def _take_branch(self, proto: NodeProto, frame: Frame) -> None:
        node = self._read(proto, frame)
        truth = bool(self._number(node, 0))
        name = "then_branch" if truth else "else_branch"
        branch = next((item.g for item in proto.attribute if item.name == name), None)
        if branch is None:
            raise node.malformed(f"{name} is missing")
        inner = Frame(f"{node.name}/", dict(frame.scope), frame.opsets, frame.given)
        self.run_graph(branch, inner, nested=True)
        for outside, inside in zip(proto.output, branch.output, strict=False):
            frame.scope[outside] = self._result(inside.name, inner, node.describe())

    def _unroll(self, proto: NodeProto, frame: Frame) -> None:
        node = self._read(proto, frame)
        body = next((item.g for item in proto.attribute if item.name == "body"), None)
        if body is None:
            raise node.malformed("its body is missing")
        rounds = Rounds.of(node, body, self._number(node, 0), self._number(node, 1))
        shared = Frame(f"{node.name}/", dict(frame.scope), frame.opsets, frame.given)
        self._add_initializers(body, shared)
        known = {item.name for item in [*body.initializer, *body.input]}
        nodes = list(ordered(body.node, known, self.file, nested=True))
        while rounds.goes_on:
            inner = replace(shared, prefix=f"{node.name}/{rounds.done}/", scope=dict(shared.scope))
            self._begin_round(rounds, inner)
            self.unrolled += len(nodes) + 1
            if self.unrolled > MOST_NODES:
                raise node.malformed(f"unrolled, the network's loops have more than {MOST_NODES} nodes")
            self._run_nodes(nodes, inner)
            results = [self._result(item.name, inner, node.describe()) for item in body.output]
            rounds.end(results, self.constants.get(str(results[0])))
        for part in stacked(rounds, self.constants):
            self._add(part)
        for outside, inside in zip(proto.output, rounds.results(), strict=False):
            if outside:
                frame.scope[outside] = inside

    def _begin_round(self, rounds: Rounds, inner: Frame) -> None:
        """Gives a loop's body its counter, its condition and its state."""
        counter, condition = inner.unique("counter/"), inner.unique("condition/")
        self.constants[counter] = torch.tensor(rounds.done)
        self.constants[condition] = torch.tensor(True)
        names = [item.name for item in rounds.body.input]
        inner.scope.update(dict(zip(names, [counter, condition, *rounds.state], strict=False)))

    def _number(self, node: OnnxNode, position: int) -> Any:
        """An input that must be known, or None if it is left out.

        Raises:
            ConversionError: if it depends on data or on the batch.
        """
        name = node.inputs[position] if position < len(node.inputs) else None
        constant = None if name is None else self.constants.get(name)
        if constant is not None and constant.numel() == 1:
            return constant.reshape(()).item()
        if name is None and node.op_type == "Loop":
            return None
        self.decisions += 1
        number = None
        if name is not None and constant is None and self.decisions <= MOST_DECISIONS:
            number = decided(name, self.nodes, self.constants, self.inputs)
        if number is None:
            what = "how often it runs" if node.op_type == "Loop" else "its condition"
            raise node.unsupported(f"{what} is computed from data, or from the batch: export without control flow")
        return number

    @staticmethod
    def _result(name: str, frame: Frame, where: str) -> str | None:
        if name not in frame.scope:
            raise InputError(f"{where}: the output '{name}' is computed by nothing: export the model again")
        return frame.scope[name]
