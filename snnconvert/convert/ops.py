"""The table of ATen operators: what each one does to a current that flows through it."""

from __future__ import annotations

import operator
from enum import Enum

import torch
from torch import fx

from snnconvert.convert.arguments import as_int
from snnconvert.convert.elementwise import elementwise, is_function, is_linear, program_name

aten = torch.ops.aten


class OpKind(Enum):
    """How a node treats values: decides what can carry spikes and what stays analog."""

    SYNAPSE = "synapse"  # weights times values
    RECTIFIER = "rectifier"  # clip to 0..cap
    RELAY = "relay"  # the value itself, for neurons to fire on
    FUNCTION = "function"  # any other nonlinear function of each value alone
    AFFINE = "affine"  # constant scale and shift per channel
    SCALING = "scaling"  # constant scale or shift for all values
    ADD = "add"
    CONCAT = "concat"
    MAX_POOL = "max-pool"
    AVERAGE_POOL = "average-pool"
    LAYOUT = "layout"  # moves values, changes none
    SHAPE = "shape"  # sizes and other numbers that aren't activations
    CONSTANT = "constant"
    INPUT = "input"
    OUTPUT = "output"
    PRODUCT = "product"  # multiplications between two activations
    ANALOG = "analog"


CONVOLUTIONS: dict[object, int] = {aten.conv1d.default: 1, aten.conv2d.default: 2, aten.conv3d.default: 3}
TRANSPOSED: dict[object, int] = {
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 2,
    aten.conv_transpose3d.input: 3,
}
LINEAR = aten.linear.default
PRELU = frozenset({aten.prelu.default, aten._prelu_kernel.default})
TIE = "tie"
COPY = "copy"
ROLE = "role"
NORMALIZATION = "normalization"

NEAREST = frozenset(
    {
        aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
        aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default,
        aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec,
    }
)  # fmt: skip
_LAYOUTS = NEAREST | frozenset(
    {
        aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
        aten.unflatten.int, aten.permute.default, aten.transpose.int, aten.t.default, aten.unsqueeze.default,
        aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.expand.default, aten.slice.Tensor,
        aten.select.int, aten.narrow.default, aten.split.Tensor, aten.split_with_sizes.default,
        aten.chunk.default, aten.unbind.int, aten.roll.default, aten.flip.default, aten.repeat.default,
        aten.pixel_shuffle.default, aten.pixel_unshuffle.default, aten.channel_shuffle.default,
        aten.index_select.default, aten.movedim.int, aten.movedim.intlist, aten.contiguous.default,
        aten.clone.default, operator.getitem, aten.reflection_pad1d.default, aten.reflection_pad2d.default,
        aten.reflection_pad3d.default, aten.replication_pad1d.default, aten.replication_pad2d.default,
        aten.replication_pad3d.default, aten.im2col.default, aten.unfold.default, aten.tile.default,
        aten.repeat_interleave.self_int, aten.expand_as.default, aten.view_as.default, aten.reshape_as.default,
        aten.gather.default, aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default,
        aten.unsafe_chunk.default,
    }
)  # fmt: skip
_PICKS = frozenset({aten.gather.default, aten.index_select.default})
MATRIX_PRODUCTS = frozenset({aten.matmul.default, aten.bmm.default, aten.mm.default})
_OTHER_PRODUCTS = frozenset(
    {
        aten.addmm.default, aten.baddbmm.default, aten.scaled_dot_product_attention.default, aten.einsum.default,
        aten.bilinear.default,
    }
)  # fmt: skip
_MAX_POOLS = frozenset({aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default})
_AVERAGE_POOLS = frozenset({aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.mean.dim})


def rectified_linear(x: torch.Tensor, cap: float | None) -> torch.Tensor:
    """min(max(x, 0), cap): the one canonical form of ReLU (cap None), ReLU6 and their variants."""
    return torch.relu(x) if cap is None else torch.clamp(x, 0.0, cap)


def relay(x: torch.Tensor) -> torch.Tensor:
    """x: where neurons fire on a current as it is."""
    return x


def channel_affine(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """scale·x + shift per channel (dimension 1): an inference normalization that folds into no synapse.

    Args:
        x: [N, C, ...].
        scale: [C].
        shift: [C].
    """
    shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
    return x * scale.view(shape) + shift.view(shape)


def kind_of(node: fx.Node) -> OpKind:
    """Classifies one node of a canonical graph by its operator alone."""
    simple = {"placeholder": OpKind.INPUT, "output": OpKind.OUTPUT, "get_attr": OpKind.CONSTANT}
    if node.op in simple:
        return simple[node.op]
    target = node.target
    if target in CONVOLUTIONS or target in TRANSPOSED or target is LINEAR:
        return OpKind.SYNAPSE if _is_constant(node.args[1]) else OpKind.PRODUCT
    if target is rectified_linear:
        return OpKind.RECTIFIER
    if target is relay:
        return OpKind.RELAY
    if is_leaky(node):
        return OpKind.FUNCTION
    if is_function(node):
        return OpKind.SCALING if is_linear(node) else OpKind.FUNCTION
    if target is channel_affine:
        return OpKind.AFFINE
    if target is aten.add.Tensor:
        return OpKind.ADD
    if target is aten.cat.default:
        return OpKind.CONCAT
    if target in _MAX_POOLS:
        return OpKind.MAX_POOL
    if target in _AVERAGE_POOLS:
        return OpKind.AVERAGE_POOL
    if target in MATRIX_PRODUCTS or target in _OTHER_PRODUCTS or is_gate(node):
        return OpKind.PRODUCT
    if target in _LAYOUTS or _is_value_padding(node):
        return OpKind.LAYOUT if target not in _PICKS or _is_fixed(node.args[2]) else OpKind.ANALOG
    reads_tensors = any(is_tensor(source) for source in node.all_input_nodes)
    return OpKind.ANALOG if is_tensor(node) and reads_tensors else OpKind.SHAPE


def groups_of(node: fx.Node) -> int:
    """The groups of a convolution, transposed or not; 1 for anything else."""
    position = 6 if node.target in CONVOLUTIONS or node.target in TRANSPOSED else len(node.args)
    return as_int(node.args[position]) if len(node.args) > position else 1


def input_channel_axis(node: fx.Node, rank: int) -> int:
    """The axis of the input channels in what a synapse with weights reads, of so many dimensions."""
    return rank - 1 if node.target is LINEAR else 1


def affine_source(node: fx.Node) -> fx.Node | None:
    """What an AFFINE or SCALING node scales and shifts; None for any other node."""
    if kind_of(node) not in (OpKind.AFFINE, OpKind.SCALING):
        return None
    return next(argument for argument in node.args if isinstance(argument, fx.Node))


def is_leaky(node: fx.Node) -> bool:
    """Whether a node multiplies negative values by a slope, one for all or one per channel (dimension 1)."""
    if node.target in PRELU:
        return _is_constant(node.args[1])
    return node.target is aten.leaky_relu.default


def is_gate(node: fx.Node) -> bool:
    """Whether a node multiplies two activations element by element, and not as part of a normalization."""
    if node.target is not aten.mul.Tensor or node.meta.get(ROLE) == NORMALIZATION:
        return False
    return all(
        isinstance(factor, fx.Node) and not _is_constant(factor) and _is_activation(factor) for factor in node.args
    )


def spike_operands(node: fx.Node) -> list[fx.Node]:
    """The activations a synapse multiplies: its input, or both factors of a product."""
    positions = node.args[:2] if kind_of(node) is OpKind.PRODUCT else node.args[:1]
    return [argument for argument in positions if isinstance(argument, fx.Node)]


def op_name(node: fx.Node) -> str:
    """The operator's plain name, such as "conv2d", "relu" or "layer_norm"."""
    if node.target is rectified_linear:
        return "relu" if node.args[1] is None else f"relu{node.args[1]:g}"
    if node.target is channel_affine:
        return "affine"
    if node.target is elementwise:
        return program_name(node.args[1])  # type: ignore[arg-type]
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target.overloadpacket.__name__)
    return node.op if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def shape_of(node: fx.Node) -> tuple[int | torch.SymInt, ...] | None:
    """The traced shape of a node's tensor (batch symbolic), or None if it isn't one tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def is_tensor(node: fx.Node) -> bool:
    """Whether a node's value is a tensor, or several."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        return any(isinstance(item, torch.Tensor) for item in value)
    return isinstance(value, torch.Tensor)


def _is_constant(argument: object) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _is_fixed(argument: object) -> bool:
    """Whether a value depends on no activation: on constants and sizes alone."""
    if not isinstance(argument, fx.Node) or argument.op == "get_attr" or not is_tensor(argument):
        return True
    return argument.op != "placeholder" and all(_is_fixed(source) for source in argument.all_input_nodes)


def _is_activation(node: fx.Node) -> bool:
    """Whether a value is a floating tensor with dimensions; one number for the whole batch only scales."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 0


def _is_value_padding(node: fx.Node) -> bool:
    if node.target is aten.constant_pad_nd.default:
        return len(node.args) < 3 or node.args[2] in (0, 0.0)
    if node.target is not aten.pad.default:
        return False
    mode = node.args[2] if len(node.args) > 2 else "constant"
    value = node.args[3] if len(node.args) > 3 else None
    return bool(mode in ("reflect", "replicate", "circular") or (mode == "constant" and value in (None, 0)))
