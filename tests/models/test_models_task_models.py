"""Networks for segmentation and detection by name; tiny ones where their size doesn't matter."""

import pytest
import torch

from snnconvert.errors import InputError
from snnconvert.models.task_models import ModelRequest, load_detector, load_segmentation


def segmentation(**settings):
    return load_segmentation(ModelRequest("lraspp_mobilenet_v3_large", **settings))


def detector(name="ssdlite320_mobilenet_v3_large", **settings):
    return load_detector(ModelRequest(name, random_weights=True, **settings))


@pytest.fixture
def checkpoint(tmp_path):
    model = segmentation(random_weights=True, num_classes=3)
    torch.save(model.module.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_random_weights_follow_the_seed_and_leave_torchs_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    models = [segmentation(random_weights=True, num_classes=3, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    first, again, other = (torch.cat([value.flatten() for value in model.module.parameters()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not models[0].module.training
    assert "random (seed 1)" in models[0].notes[0]


def test_segmentation():
    model = segmentation(random_weights=True, image_size=64)
    assert (model.input_size, model.num_classes, model.weights) == ((3, 64, 64), 21, "random")
    assert (model.preprocessing.crop_mode, model.preprocessing.crop_pct) == ("squash", 1.0)
    with torch.no_grad():
        assert model.module(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 21, 64, 64)
    assert segmentation(random_weights=True).input_size == (3, 520, 520)


def test_a_checkpoint(checkpoint):
    model = segmentation(checkpoint=checkpoint, num_classes=3)
    assert model.weights == f"checkpoint {checkpoint}"
    expected = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in model.module.state_dict().items())


def test_a_checkpoint_that_does_not_fit(checkpoint):
    with pytest.raises(InputError, match="of another shape"):
        segmentation(checkpoint=checkpoint)
    with pytest.raises(InputError, match="no checkpoint file"):
        segmentation(checkpoint=checkpoint.with_name("other.pth"))
    with pytest.raises(InputError, match="exclude each other"):
        segmentation(checkpoint=checkpoint, random_weights=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"num_classes": 0}, "num_classes"), ({"image_size": -1}, "image_size"), ({"seed": -1}, "seed")],
)
def test_numbers_out_of_range(settings, words):
    with pytest.raises(InputError, match=words):
        segmentation(random_weights=True, **settings)


def test_pretrained_weights_have_their_classes():
    with pytest.raises(InputError, match="21 classes, not 5"):
        segmentation(num_classes=5)


def test_weights_that_cannot_be_downloaded(monkeypatch, capsys, tmp_path):
    def failing(*args, **kwargs):
        raise OSError("no way\nto the server")

    monkeypatch.setattr("torch.hub.download_url_to_file", failing)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"can't be had \(no way\): give --checkpoint FILE or --random-weights"):
        segmentation()
    assert capsys.readouterr() == ("", "")


def test_what_detectors_call_their_classes():
    found = detector()
    assert (found.labels.first, found.labels.classes) == (1, 91)
    assert (found.names[1], found.names[18]) == ("person", "dog")
    assert found.model.input_size == (3, 320, 320)
    assert (found.model.preprocessing.mean, found.model.preprocessing.std) == ((0.0,) * 3, (1.0,) * 3)
    assert detector(num_classes=21).names[12] == "dog"  # Pascal VOC's
    assert detector(num_classes=7).names == ()


def test_sizes_of_detectors():
    small = detector(num_classes=3, image_size=96)
    assert small.model.input_size == (3, 96, 96)
    batch, _ = small.model.module.transform([torch.rand(3, 50, 90)])
    assert batch.tensors.shape == (1, 3, 96, 96)
    other = detector("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=3, image_size=96)
    batch, _ = other.model.module.transform([torch.rand(3, 50, 200)])
    assert batch.image_sizes == [(40, 160)]
    assert other.labels.first == 1
