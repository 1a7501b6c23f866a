"""ONNX's own node tests, operator by operator.

Sizes, axes and the like, which a test feeds as inputs, are constants in real files; so where a test is
refused for that reason, it runs once more with these inputs written into the file.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_graphs import value
from torch import Tensor

from snnconvert.errors import SnnConvertError
from snnconvert.models.onnx import OnnxModel, load_onnx
from snnconvert.models.onnx.decompose import is_decomposed
from snnconvert.models.onnx.table import find_op

LEAST_PASSING = 1358
LARGEST_SHARE_REFUSED = 0.16
HALF_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
WIDENED = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "int4": np.int8, "uint4": np.uint8}
EXCEPTIONS = {
    "test_bitwise_not_3d": "unsigned 16-bit integers are kept in 32 bits",
    "test_cast_FLOAT_to_BFLOAT16": "bfloat16 is float32 here, so values beyond its range don't become infinite",
    "test_castlike_FLOAT_to_BFLOAT16": "as test_cast_FLOAT_to_BFLOAT16",
    "test_castlike_FLOAT_to_BFLOAT16_expanded": "as test_cast_FLOAT_to_BFLOAT16",
}


@dataclass(frozen=True)
class Outcome:
    """passed, refused or wrong, and why."""

    verdict: str
    reason: str = ""


def tensor(data: Any) -> Tensor:
    array = numpy_helper.to_array(data) if isinstance(data, TensorProto) else np.asarray(data)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array, np.float32))
    return torch.from_numpy(np.array(array).astype(WIDENED.get(array.dtype.name, array.dtype)))


@cache
def relevant_cases() -> list[Any]:
    """The node tests whose operators are all in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if case.model is not None and _is_relevant(case.model)]


def _is_relevant(model: ModelProto) -> bool:
    opsets = {item.domain: item.version for item in model.opset_import}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    own = {function.name for function in model.functions}
    return all(
        node.op_type in own
        or node.op_type == "If"
        or is_decomposed(node.domain, node.op_type)
        or find_op(node.domain, node.op_type, opsets.get(node.domain, 1)) is not None
        for node in nodes
    )


def load_with(case: Any, kept: int, folder: Path) -> OnnxModel:
    """The test's model with all inputs behind the first few written into the file."""
    model = ModelProto()
    model.CopyFrom(case.model)
    for item, data in list(zip(model.graph.input, case.data_sets[0][0], strict=False))[kept:]:
        proto = data if isinstance(data, TensorProto) else numpy_helper.from_array(np.asarray(data))
        constant = model.graph.initializer.add()
        constant.CopyFrom(proto)
        constant.name = item.name
    if kept == 0:
        model.graph.input.append(value("unused", [1]))
    path = folder / "case.onnx"
    path.write_bytes(model.SerializeToString())
    return load_onnx(path)


def load_case(case: Any, folder: Path, kept: tuple[int, ...] = (99, 1, 0)) -> tuple[OnnxModel, int]:
    try:
        return load_with(case, kept[0], folder), kept[0]
    except SnnConvertError as error:
        reasons = ("must be a constant", "its condition")
        if len(kept) == 1 or not any(words in str(error) for words in reasons):
            raise
        return load_case(case, folder, kept[1:])


def tolerance_of(case: Any) -> float:
    types = {item.type.tensor_type.elem_type for item in [*case.model.graph.input, *case.model.graph.output]}
    return 2e-2 if types.intersection(HALF_TYPES) else max(case.rtol, 1e-3)


def outcome_of(case: Any, folder: Path) -> Outcome:
    try:
        model, kept = load_case(case, folder)
        for inputs, expected in case.data_sets:
            given = [tensor(item) for item in inputs[:kept]] or [torch.zeros(1)]
            with torch.no_grad():
                result = model.module(*given)
            outputs = [result] if isinstance(result, Tensor) else list(result.values())
            for actual, wanted in zip(outputs, map(tensor, expected), strict=False):
                if actual.shape != wanted.shape or actual.dtype != wanted.dtype:
                    return Outcome(
                        "wrong", f"{actual.dtype} {tuple(actual.shape)}, {wanted.dtype} {tuple(wanted.shape)}"
                    )
                limit = tolerance_of(case)
                if not np.allclose(
                    actual.double(),
                    wanted.double(),
                    rtol=limit,
                    atol=max(case.atol, limit * 0.2 if limit > 1e-2 else 1e-6),
                    equal_nan=True,
                ):
                    return Outcome("wrong", f"{float((actual.double() - wanted.double()).abs().max()):.3g} apart")
    except SnnConvertError as error:
        return Outcome("refused", str(error))
    return Outcome("passed")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("cases")
    return {case.name: outcome_of(case, folder) for case in relevant_cases()}


def unexpected(outcomes):
    wrong = {name: outcome.reason for name, outcome in outcomes.items() if outcome.verdict == "wrong"}
    return {name: reason for name, reason in wrong.items() if name not in EXCEPTIONS}


def test_of_every_sixteenth_case_none_is_wrong_and_most_pass(tmp_path):
    outcomes = {case.name: outcome_of(case, tmp_path) for case in relevant_cases()[::16]}
    assert unexpected(outcomes) == {}
    refused = [outcome.reason for outcome in outcomes.values() if outcome.verdict == "refused"]
    assert len(refused) <= LARGEST_SHARE_REFUSED * len(outcomes)
    assert all("case.onnx" in reason and "\n" not in reason for reason in refused)


@pytest.mark.slow
def test_no_relevant_case_is_wrong(outcomes):
    assert unexpected(outcomes) == {}


@pytest.mark.slow
def test_as_many_cases_pass_as_the_documentation_says(outcomes):
    # The number is that of onnx 1.23; other versions bring fewer or more cases of the same operators.
    counts = Counter(outcome.verdict for outcome in outcomes.values())
    if onnx.__version__.startswith("1.23."):
        assert counts["passed"] >= LEAST_PASSING, counts
    assert counts["refused"] <= LARGEST_SHARE_REFUSED * len(outcomes), counts


@pytest.mark.slow
def test_every_refusal_has_a_reason_a_user_can_act_on(outcomes):
    refused = [outcome.reason for outcome in outcomes.values() if outcome.verdict == "refused"]
    assert all("case.onnx" in reason and "\n" not in reason for reason in refused)
