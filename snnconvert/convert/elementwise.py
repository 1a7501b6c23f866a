"""Functions of one value: which operators act on every element alone, and programs made of several of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
Step = Sequence[Any]

# Functions that make a network nonlinear on purpose: where one feeds a synapse, neurons fire on it.
ACTIVATIONS = frozenset(
    {
        aten.relu.default, aten.relu6.default, aten.sigmoid.default, aten.tanh.default, aten.gelu.default,
        aten.silu.default, aten.hardswish.default, aten.hardsigmoid.default, aten.mish.default,
        aten.softplus.default, aten.elu.default, aten.celu.default, aten.selu.default, aten.leaky_relu.default,
        aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default,
        aten.threshold.default, aten.hardshrink.default, aten.softshrink.default, aten.log_sigmoid.default,
        aten.erf.default,
    }
)  # fmt: skip
# Functions that only become neurons where a synapse reads them directly.
_OTHER_FUNCTIONS = frozenset(
    {
        aten.exp.default, aten.expm1.default, aten.exp2.default, aten.log.default, aten.log1p.default,
        aten.log2.default, aten.sqrt.default, aten.rsqrt.default, aten.abs.default, aten.square.default,
        aten.reciprocal.default, aten.sin.default, aten.cos.default, aten.atan.default, aten.sign.default,
        aten.floor.default, aten.ceil.default, aten.round.default, aten.pow.Tensor_Scalar, aten.erfc.default,
        aten.sinh.default, aten.cosh.default, aten.asinh.default, aten.tan.default, aten.asin.default,
        aten.acos.default, aten.acosh.default, aten.atanh.default, aten.log10.default, aten.trunc.default,
        aten.frac.default, aten.sgn.default, aten.remainder.Scalar, aten.fmod.Scalar, aten.nan_to_num.default,
        aten.lerp.Scalar, aten.addcmul.default, aten.addcdiv.default, aten.copysign.Tensor, aten.hypot.default,
        aten.logaddexp.default,
    }
)  # fmt: skip
# Piecewise functions are made of comparisons, whose truth values live only inside a program, and of choices.
_COMPARISONS = frozenset(
    {
        aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar, aten.eq.Scalar, aten.ne.Scalar,
        aten.gt.Tensor, aten.ge.Tensor, aten.lt.Tensor, aten.le.Tensor, aten.logical_and.default,
        aten.logical_or.default, aten.logical_not.default, aten.bitwise_and.Tensor, aten.bitwise_or.Tensor,
        aten.bitwise_not.default, aten.__and__.Tensor, aten.__or__.Tensor,
    }
)  # fmt: skip
_CHOICES = frozenset(
    {
        aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.masked_fill.Scalar,
        aten.maximum.default, aten.minimum.default, aten.max.other, aten.min.other,
    }
)  # fmt: skip
# Constants in the shape of a value; no functions of it on their own.
_LIKES = frozenset({aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.type_as.default})
_LINEAR = frozenset({aten.neg.default, aten.rsub.Scalar})
_ARITHMETIC = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor})
_ACTIVATION_NAMES = frozenset(str(target) for target in ACTIVATIONS | _COMPARISONS | _CHOICES)
_NAMES: dict[str, Callable[..., Tensor]] = {
    str(target): target
    for target in ACTIVATIONS | _OTHER_FUNCTIONS | _COMPARISONS | _CHOICES | _LIKES | _LINEAR | _ARITHMETIC
}


def elementwise(x: Tensor, program: Sequence[Step]) -> Tensor:
    """f(x) of a program: every step applies one operator to x (index 0), earlier results (1, 2, …) and numbers.

    Args:
        x: any shape.
        program: steps (operator, argument, …); an argument ["value", i] is x or an earlier step's result,
            ["keyword", name, value] is passed by name, anything else stands for itself.

    Returns:
        The last step's result, of x's shape.

    Raises:
        ValueError: on an operator that isn't elementwise, or a value that isn't there yet.
    """
    values = [x]
    for name, *arguments in program:
        if name not in _NAMES:
            raise ValueError(f"{name!r} is no elementwise operator")
        keywords = {item[1]: item[2] for item in arguments if _is_keyword(item)}
        positional = [_argument(item, values) for item in arguments if not _is_keyword(item)]
        values.append(_NAMES[name](*positional, **keywords))
    return values[-1].to(x.dtype)


def function_of(node: fx.Node) -> Callable[[Tensor], Tensor] | None:
    """The function of one value a node computes, for any floating type; None if it is none."""
    target: Any = node.target
    if target is elementwise:
        program: Any = node.args[1]
        return lambda x: elementwise(x, program)
    if not is_function(node):
        return None
    position = next(index for index, argument in enumerate(node.args) if isinstance(argument, fx.Node))
    arguments: list[Any] = list(node.args)
    keywords = dict(node.kwargs)

    def compute(x: Tensor) -> Tensor:
        arguments[position] = x
        result: Tensor = target(*arguments, **keywords)
        return result

    return compute


def is_function(node: fx.Node) -> bool:
    """Whether a node maps one floating tensor and plain numbers to a tensor, element by element."""
    if node.target is elementwise:
        return True
    if not is_step(node) or node.target in _LIKES or not is_floating(node):
        return False
    sources = [argument for argument in node.args if isinstance(argument, fx.Node)]
    return len(sources) == 1 and is_floating(sources[0])


def is_step(node: fx.Node) -> bool:
    """Whether a node could be a step of a program: elementwise, of tensors of one shape and numbers.

    Tensors are floating, or the truth values of comparisons.
    """
    if node.op != "call_function" or str(node.target) not in _NAMES or not _is_value(node):
        return False
    if not all(_is_plain(value) for value in node.kwargs.values()):
        return False
    tensors = [argument for argument in node.args if isinstance(argument, fx.Node)]
    plain = all(_is_plain(argument) for argument in node.args if not isinstance(argument, fx.Node))
    return bool(tensors) and plain and all(_is_value(t) and _have_one_shape(t, node) for t in tensors)


def is_activation(node: fx.Node) -> bool:
    """Whether a function of one value contains a nonlinearity that networks use as activation."""
    if node.target is elementwise:
        program: Any = node.args[1]
        return any(step[0] in _ACTIVATION_NAMES for step in program)
    return node.target in ACTIVATIONS


def is_linear(node: fx.Node) -> bool:
    """Whether a function of one value only scales, shifts or negates it."""
    if node.target in _ARITHMETIC:
        return node.target is not aten.div.Tensor or isinstance(node.args[0], fx.Node)
    return node.target in _LINEAR


def program_name(program: Sequence[Step]) -> str:
    """A short name: the known activation a program amounts to, or its nonlinear operators."""
    values = torch.linspace(-6.0, 6.0, 97, dtype=torch.float64)
    for name, known in _KNOWN.items():
        if torch.allclose(elementwise(values, program), known(values), rtol=1e-6, atol=1e-8):
            return name
    names = [str(step[0]).split(".")[1] for step in program if _NAMES[str(step[0])] not in _ARITHMETIC]
    return "*".join(dict.fromkeys(names)) or "polynomial"


_KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "hardswish": torch.nn.functional.hardswish,
    "hardsigmoid": torch.nn.functional.hardsigmoid,
    "mish": torch.nn.functional.mish,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "squared_relu": lambda x: torch.relu(x).square(),
    "softsign": torch.nn.functional.softsign,
}


def _is_keyword(argument: Any) -> bool:
    return isinstance(argument, (list, tuple)) and len(argument) == 3 and argument[0] == "keyword"


def _argument(argument: Any, values: Sequence[Tensor]) -> Any:
    if not isinstance(argument, (list, tuple)):
        return argument
    kind, index = argument
    if kind != "value" or not isinstance(index, int) or not 0 <= index < len(values):
        raise ValueError(f"{argument!r} is no value of the program")
    return values[index]


def is_floating(node: fx.Node) -> bool:
    """Whether a node's value is a floating tensor."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_value(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and (value.is_floating_point() or value.dtype == torch.bool)


def _is_plain(argument: object) -> bool:
    if isinstance(argument, float):
        return math.isfinite(argument) or math.isinf(argument)
    return argument is None or isinstance(argument, (bool, int, str))


def _have_one_shape(one: fx.Node, other: fx.Node) -> bool:
    left, right = one.meta["val"].shape, other.meta["val"].shape
    return len(left) == len(right) and all(map(_are_equal, left, right))


def _are_equal(left: int | torch.SymInt, right: int | torch.SymInt) -> bool:
    """Whether two sizes are equal by their expressions, without asking the solver."""
    if isinstance(left, torch.SymInt) and isinstance(right, torch.SymInt):
        return bool(left.node.expr == right.node.expr)
    return isinstance(left, int) and isinstance(right, int) and left == right
