"""One flat list of nodes: functions and decided branches are inlined, constants are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
from snnconvert.models.onnx.limits import MOST_DECISIONS
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
    """

    external: ExternalData
    functions: Mapping[FunctionKey, FunctionProto]
    folder: Folder
    inputs: Sequence[OnnxInput]
    nodes: list[OnnxNode] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    narrow: set[str] = field(default_factory=set)
    decisions: int = 0

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
            key = function_key(proto)
            if key in self.functions:
                self._inline(proto, self.functions[key], frame)
            elif proto.op_type == "If" and not plain_domain(proto.domain):
                self._take_branch(proto, frame)
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
        condition = self.constants.get(str(node.inputs[0])) if node.inputs else None
        truth = self._truth(node, condition)
        name = "then_branch" if truth else "else_branch"
        branch = next((item.g for item in proto.attribute if item.name == name), None)
        if branch is None:
            raise node.malformed(f"{name} is missing")
        inner = Frame(f"{node.name}/", dict(frame.scope), frame.opsets, frame.given)
        self.run_graph(branch, inner, nested=True)
        for outside, inside in zip(proto.output, branch.output, strict=False):
            frame.scope[outside] = self._result(inside.name, inner, node.describe())

    def _truth(self, node: OnnxNode, condition: Tensor | None) -> bool:
        """Whether the first branch is taken.

        Raises:
            ConversionError: if that depends on data or on the batch.
        """
        if condition is not None and condition.numel() == 1:
            return bool(condition.reshape(()).item())
        self.decisions += 1
        name = node.inputs[0] if node.inputs else None
        truth = None
        if name is not None and condition is None and self.decisions <= MOST_DECISIONS:
            truth = decided(name, self.nodes, self.constants, self.inputs)
        if truth is None:
            raise node.unsupported(
                "its condition is computed from data, or from the batch: export without control flow"
            )
        return truth

    @staticmethod
    def _result(name: str, frame: Frame, where: str) -> str | None:
        if name not in frame.scope:
            raise InputError(f"{where}: the output '{name}' is computed by nothing: export the model again")
        return frame.scope[name]
