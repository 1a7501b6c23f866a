import json
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from snnconvert.convert.structure import Record, Structure, flatten, structure_from_json, unflatten
from snnconvert.errors import ArtifactError, InputError

Pair = namedtuple("Pair", ["boxes", "scores"])


@dataclass
class Result:
    logits: object
    loss: object = None


def tensors(count):
    return [torch.full((2,), float(index)) for index in range(count)]


def equal(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


A, B, C = tensors(3)
VALUES = {
    "tensor": A,
    "none": None,
    "numbers": (1, True, 2.5, float("inf"), "word", None),
    "list": [A, [B, (C,)]],
    "empty": [(), {}, []],
    "dict": {"b": A, "a": B, 3: C},
    "ordered": OrderedDict([("b", A), ("a", {"c": B})]),
    "named": Pair(A, [B, None]),
    "record": Result(A, None),
    "mapping": UserDict(a=A, b=2),
    "size": A.shape,
    "twice the same": (A, A),
    "result of torch": torch.max(torch.eye(3), 0),
}


def leaves_of(value):
    return flatten(value, "it")[0]


@pytest.mark.parametrize("name", VALUES)
def test_what_is_taken_apart_comes_back(name):
    value = VALUES[name]
    leaves, structure = flatten(value, "it")
    assert structure.tensors == len(leaves) == len(list(structure.paths()))
    again = unflatten(structure, leaves)
    if name not in ("size", "result of torch"):
        assert type(again) is type(value)
    same, rebuilt = flatten(again, "it")
    assert rebuilt == structure
    assert all(one is other for one, other in zip(leaves, same, strict=True))


@pytest.mark.parametrize("name", VALUES)
def test_descriptions_survive_json(name):
    leaves, structure = flatten(VALUES[name], "it")
    again = structure_from_json(json.loads(json.dumps(structure.to_json(), allow_nan=False)))
    assert again == structure
    rebuilt = unflatten(again, leaves)
    assert all(one is other for one, other in zip(leaves, leaves_of_record(rebuilt), strict=True))


def leaves_of_record(value):
    """Tensors of a value whose records have lost their None."""
    if isinstance(value, Record):
        return [leaf for item in value.values() for leaf in leaves_of_record(item)]
    return leaves_of(value)


def test_records_have_attributes_items_and_indices():
    _, structure = flatten({"first": Pair(A, None), "second": Result(B)}, "it")
    again = unflatten(structure_from_json(structure.to_json()), [A, B])
    pair, result = again["first"], again["second"]
    assert isinstance(pair, Record)
    assert isinstance(pair, dict)
    assert pair[0] is pair["boxes"] is pair.boxes is A
    assert pair[1] is pair.scores is None
    assert result.logits is result[0] is B
    assert result.loss is None
    assert list(result) == ["logits"]
    with pytest.raises(AttributeError, match="logits"):
        _ = result.boxes
    with pytest.raises(IndexError):
        result[1]


def test_paths_name_the_places():
    _, structure = flatten({"out": A, "more": [B, {"x": C}]}, "it")
    assert list(structure.paths()) == [("out",), ("more", 0), ("more", 1, "x")]
    assert str(structure) == "{out: tensor, more: [tensor, {x: tensor}]}"


@pytest.mark.parametrize("value", [{1, 2}, [A, object()], {"a": b"bytes"}, {(1, 2): A}, lambda: A])
def test_anything_else_is_named(value):
    with pytest.raises(InputError, match=r"it.* is "):
        flatten(value, "it")


def test_too_few_tensors_are_refused():
    _, structure = flatten([A, B], "it")
    with pytest.raises(ValueError, match="1 tensors"):
        unflatten(structure, [A])


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "module"},
        {"kind": "tensor", "code": "print()"},
        {"kind": "list"},
        {"kind": "list", "children": 3},
        {"kind": "dict", "children": [{"kind": "tensor"}], "keys": []},
        {"kind": "dict", "children": [{"kind": "tensor"}] * 2, "keys": ["a", "a"]},
        {"kind": "named", "children": [{"kind": "tensor"}], "keys": [1]},
        {"kind": "value", "value": [1]},
        {"kind": "value", "value": {"float": "eval"}},
        {"kind": "value"},
    ],
)
def test_damaged_descriptions_are_refused(data):
    with pytest.raises(ArtifactError):
        structure_from_json(data)


def test_a_description_nested_without_end_is_refused():
    data = {"kind": "tensor"}
    for _ in range(100_000):
        data = {"kind": "list", "children": [data]}
    with pytest.raises(ArtifactError):
        structure_from_json(data)


def test_equality_does_not_ask_for_the_class():
    assert flatten(Pair(A, B), "it")[1] == Structure(
        "named", (Structure("tensor"), Structure("tensor")), ("boxes", "scores")
    )
