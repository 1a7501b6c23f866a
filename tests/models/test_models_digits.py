import json

import pytest
import safetensors
import torch
from torch import nn

from snnconvert.errors import InputError
from snnconvert.models.digits import DIGITS_WEIGHTS, DigitsNet
from snnconvert.models.source import load_model
from snnconvert.models.train_digits import count_correct, digits_tensors, main


def record(path) -> dict[str, object]:
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


def test_embedded_model():
    loaded = load_model("digits")
    assert (loaded.name, loaded.weights, loaded.notes) == ("digits", "embedded", ())
    assert (loaded.input_size, loaded.num_classes) == ((1, 8, 8), 10)
    assert not loaded.module.training
    assert loaded.module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_accuracy_is_high_and_as_recorded():
    tensors = digits_tensors()
    correct = count_correct(load_model("digits").module, tensors.test_images, tensors.test_labels)
    training = record(DIGITS_WEIGHTS)
    assert training["held_out_images"] == len(tensors.test_labels) == 540
    assert abs(correct - training["held_out_correct"]) <= 1
    assert correct / 540 >= 0.985


def test_weights_are_small():
    assert DIGITS_WEIGHTS.stat().st_size < 300_000


def test_structure():
    net = DigitsNet()
    assert any(isinstance(m, nn.MaxPool2d) for m in net.modules())
    assert any(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride == (2, 2) for m in net.modules())
    x = torch.randn(2, 32, 4, 4)
    block = net.eval().block1
    with torch.no_grad():
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
        torch.testing.assert_close(block(x), torch.relu(branch + x))


def test_checkpoint_with_other_classes(tmp_path):
    source = DigitsNet(4)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    loaded = load_model("digits", checkpoint=tmp_path / "w.pt", num_classes=4)
    assert loaded.weights == f"checkpoint {tmp_path / 'w.pt'}"
    assert torch.equal(loaded.module.state_dict()["fc.weight"], source.fc.weight)
    with pytest.raises(InputError, match="--num-classes 4"):
        load_model("digits", checkpoint=tmp_path / "w.pt")


@pytest.mark.parametrize(("argument", "value"), [("num_classes", 4), ("image_size", 28)])
def test_what_the_embedded_weights_do_not_fit(argument, value):
    with pytest.raises(InputError, match=f"{argument} is {value}"):
        load_model("digits", **{argument: value})


@pytest.mark.slow
def test_training_reproduces_the_weights(tmp_path, capsys):
    before = (
        torch.random.get_rng_state(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )
    main(["--out", str(tmp_path / "d.safetensors")])
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "held-out digits correct" in captured.err
    again, shipped = record(tmp_path / "d.safetensors"), record(DIGITS_WEIGHTS)
    assert again["settings"] == shipped["settings"]
    assert abs(again["held_out_accuracy"] - shipped["held_out_accuracy"]) <= 0.01
    loaded = load_model("digits", checkpoint=tmp_path / "d.safetensors")
    tensors = digits_tensors()
    assert count_correct(loaded.module, tensors.test_images, tensors.test_labels) == again["held_out_correct"]
