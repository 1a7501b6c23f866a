import argparse
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from snnconvert.errors import InputError
from snnconvert.models.checkpoint import apply_state_dict, load_state_dict


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def state(classes: int = 3) -> dict[str, torch.Tensor]:
    return dict(network(classes).state_dict())


def assert_one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def assert_same(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.th", "w.bin", "w.pth.tar", "W.PTH"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_formats(tmp_path, name, zipped):
    expected = state()
    torch.save(expected, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_same(load_state_dict(tmp_path / name), expected)


def test_safetensors(tmp_path):
    expected = state()
    safetensors.torch.save_file(expected, tmp_path / "w.safetensors")
    assert_same(load_state_dict(tmp_path / "w.safetensors"), expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"lr": 0.1}},
        lambda s: {"model_state_dict": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"model": "resnet18", "state_dict": s},
        lambda s: {"state_dict": {k: v + 1 for k, v in s.items()}, "state_dict_ema": s},
        lambda s: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": s},
        lambda s: {"args": argparse.Namespace(lr=1), "state_dict": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {**s, "epoch": 7},
    ],
)
def test_wrappers_and_prefixes(tmp_path, wrap):
    expected = state()
    torch.save(wrap(expected), tmp_path / "w.pth")
    assert_same(load_state_dict(tmp_path / "w.pth"), expected)


def test_prefix_of_some_keys_stays(tmp_path):
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(mixed, tmp_path / "w.pth")
    assert set(load_state_dict(tmp_path / "w.pth")) == {"module.a", "b"}


def test_missing_file(tmp_path):
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "none.pth")
    assert_one_line(error, "none.pth", "there is no")


@pytest.mark.parametrize("name", ["w.ckpt", "w.tar", "w"])
def test_unknown_extension(tmp_path, name):
    torch.save(state(), tmp_path / name)
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / name)
    assert_one_line(error, name, ".safetensors", ".pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 20, 200, -50])
def test_truncated(tmp_path, name, kept):
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save(state(), path)
    else:
        safetensors.torch.save_file(state(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError) as error:
        load_state_dict(path)
    assert_one_line(error, name, "truncated or damaged")


@pytest.mark.parametrize("kept", [10, 60, 300, -30])
def test_truncated_old_format(tmp_path, kept):
    path = tmp_path / "w.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError) as error:
        load_state_dict(path)
    assert_one_line(error, "w.pth", "truncated or damaged")


@pytest.mark.parametrize("content", [b"hello, world", b"<!DOCTYPE html><html>404</html>", bytes(range(256))])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_no_checkpoint_at_all(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / name)
    assert_one_line(error, name, "truncated or damaged")


@pytest.mark.parametrize("protocol", [0, 2, 4, None])
def test_code_is_not_executed(tmp_path, protocol):
    target = tmp_path / "executed"
    path = tmp_path / "w.pth"
    if protocol is None:
        torch.save({"state_dict": Payload(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Payload(target)}, protocol=protocol))
    with pytest.raises(InputError) as error:
        load_state_dict(path)
    assert_one_line(error, "w.pth", "mkdir", "NOT executed")
    assert not target.exists()


def test_pickle_without_code_or_weights(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": {1, 2}}))
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pth")
    assert_one_line(error, "w.pth", "isn't only weights", "NOT executed")


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_module(tmp_path, zipped):
    torch.save({"model": network()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pth")
    assert_one_line(error, "w.pth", "whole pickled module", "NOT executed", "state_dict()")


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_torchscript_archive(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pt")
    assert_one_line(error, "w.pt", "TorchScript")


@pytest.mark.parametrize(
    ("content", "word"), [({"net": {"a": torch.ones(1)}}, "net"), ([1, 2], "list"), ({}, "no tensors")]
)
def test_no_tensors(tmp_path, content, word):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pth")
    assert_one_line(error, "w.pth", "no tensors", word)


def test_dictionary_that_contains_itself(tmp_path):
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pth")
    assert_one_line(error, "no tensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_no_numbers(tmp_path, value, dtype):
    bad = torch.tensor([1.0, value], dtype=dtype)
    torch.save({"a": torch.ones(2), "n": torch.tensor(3), "b": bad, "c": bad}, tmp_path / "w.pth")
    with pytest.raises(InputError) as error:
        load_state_dict(tmp_path / "w.pth")
    assert_one_line(error, "w.pth", "'b'", "NaN")


def test_apply():
    module, weights = network(), state()
    apply_state_dict(module, weights, source="w.pth")
    assert_same(dict(module.state_dict()), weights)


def test_apply_without_batch_counter():
    module, weights = network(), state()
    del weights["1.num_batches_tracked"]
    apply_state_dict(module, weights, source="w.pth")
    assert torch.equal(module.state_dict()["0.weight"], weights["0.weight"])


def test_apply_lists_every_difference_and_changes_nothing():
    module, weights = network(), state()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    del weights["0.bias"]
    weights["extra.weight"] = torch.ones(1)
    weights["0.weight"] = torch.ones(4, 2, 3, 3)
    with pytest.raises(InputError) as error:
        apply_state_dict(module, weights, source="w.pth")
    assert_one_line(
        error, "w.pth", "1 key missing (0.bias)", "1 key unexpected (extra.weight)", "[4, 2, 3, 3] instead of"
    )
    assert "--num-classes" not in str(error.value)
    assert_same(dict(module.state_dict()), before)


def test_apply_shortens_long_lists():
    with pytest.raises(InputError) as error:
        apply_state_dict(network(), {"x": torch.ones(1)}, source="w.pth")
    assert_one_line(error, "8 keys missing (0.weight, 0.bias, 1.weight, ...)")


def test_apply_suggests_the_number_of_classes():
    with pytest.raises(InputError) as error:
        apply_state_dict(network(3), state(7), source="w.pth")
    assert_one_line(error, "--num-classes 7")


def test_apply_suggests_no_classes_when_width_differs():
    weights = state()
    weights["3.weight"] = torch.ones(3, 5)
    with pytest.raises(InputError) as error:
        apply_state_dict(network(), weights, source="w.pth")
    assert_one_line(error, "another shape")
    assert "--num-classes" not in str(error.value)
