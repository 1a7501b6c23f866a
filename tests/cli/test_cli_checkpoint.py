import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from cli_helpers import assert_one_error, snapshot
from slow_cases import mostly_slow

import snnconvert
from snnconvert.models.digits import load_digits_net

FEW = ["--eval-images", "60", "--calib-images", "16"]


def weights():
    return {name: tensor.clone() for name, tensor in load_digits_net().state_dict().items()}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def embedded(digits_run):
    """The figures with the weights that come with the package."""
    return {key: digits_run[0].last_line[key] for key in ("metric", "fidelity", "totals")}


@pytest.mark.parametrize(
    ("name", "wrap"),
    mostly_slow(
        [
            ("w.safetensors", None),
            ("w.pth", lambda state: state),
            (
                "w.pt",
                lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
            ),
            ("w.th", lambda state: {"model": state, "optimizer": {"lr": 0.1}}),
            ("w.pth.tar", lambda state: {"model_state_dict": state}),
            ("w.PTH", lambda state: {"state_dict": {f"_orig_mod.{key}": value for key, value in state.items()}}),
        ],
        keep=3,
    ),
)
def test_checkpoint_gives_the_same_conversion_as_the_same_weights_built_in(cli, tmp_path, embedded, name, wrap):
    path = tmp_path / name
    if wrap is None:
        safetensors.torch.save_file(weights(), path)
    else:
        torch.save(wrap(weights()), path)
    outcome = cli("digits", "--checkpoint", path, "-o", "out")
    assert outcome.code == 0, outcome.err
    assert {key: outcome.last_line[key] for key in embedded} == embedded
    assert outcome.last_line["weights"] == f"checkpoint {path}"
    assert outcome.last_line["notes"] == []


def test_checkpoint_of_a_timm_network_is_used(cli, folder, tmp_path):
    few = ["--calib-images", "8", "--eval-images", "6"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, images = timm.create_model("test_resnet", num_classes=7), torch.rand(4, 3, 160, 160)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pth")
    outcome = cli("test_resnet", "--checkpoint", tmp_path / "w.pth", "--num-classes", "7", *few, "-o", "out")
    assert outcome.code == 0, outcome.err
    with torch.no_grad():
        expected = network.eval()(images)
    error = snnconvert.load(folder / "out")(images) - expected
    assert float(error.square().sum()) < 0.1 * float(expected.square().sum())
    assert not any("random" in note for note in outcome.last_line["notes"])


def refused(cli, folder, checkpoint, *words, model="digits"):
    before = snapshot(folder)
    outcome = cli(model, "--checkpoint", checkpoint)
    assert_one_error(outcome, *words)
    assert outcome.out == ""
    assert snapshot(folder) == before


def test_classifier_of_another_size_says_which_option_helps(cli, folder, tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=7).state_dict(), tmp_path / "w.pth")
    refused(cli, folder, tmp_path / "w.pth", "--num-classes 7", model="test_resnet")


def test_checkpoint_of_another_architecture(cli, folder, tmp_path):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    refused(cli, folder, tmp_path / "w.pth", "w.pth", "missing", "unexpected", model="test_resnet")
    refused(cli, folder, tmp_path / "w.pth", "w.pth", "missing", "unexpected")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_checkpoint(cli, folder, tmp_path, name, share):
    whole = tmp_path / f"whole-{name}"
    if name == "w.pth":
        torch.save(weights(), whole)
    else:
        safetensors.torch.save_file(weights(), whole)
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    refused(cli, folder, tmp_path / name, name)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle", "beside weights"])
def test_malicious_pickle_is_not_executed(cli, folder, tmp_path, how):
    target, path = tmp_path / "executed", tmp_path / "w.pth"
    content = {"state_dict": weights(), "extra": Payload(target)} if how == "beside weights" else Payload(target)
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    refused(cli, folder, path, "NOT executed", "state_dict")
    assert not target.exists()
    torch.load(path, weights_only=False) if how != "pickle" else pickle.loads(path.read_bytes())
    assert target.exists(), "the payload does nothing, so this test proves nothing"


def test_whole_pickled_module(cli, folder, tmp_path):
    torch.save(load_digits_net(), tmp_path / "w.pth")
    refused(cli, folder, tmp_path / "w.pth", "NOT executed", "state_dict")


def test_unknown_extension(cli, folder, tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"0")
    refused(cli, folder, tmp_path / "w.onnx", ".safetensors", ".pth")


def test_checkpoint_with_nan(cli, folder, tmp_path):
    state = weights()
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    refused(cli, folder, tmp_path / "w.pth", "fc.weight", "NaN")


@pytest.mark.parametrize("name", ["absent.pth", "."])
def test_missing_checkpoint(cli, folder, name):
    refused(cli, folder, name, "no checkpoint file")


def test_checkpoint_is_left_alone(cli, tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    shutil.copy(tmp_path / "w.pth", tmp_path / "copy.pth")
    assert cli("digits", *FEW, "--checkpoint", tmp_path / "w.pth", "-q").code == 0
    assert (tmp_path / "w.pth").read_bytes() == (tmp_path / "copy.pth").read_bytes()
