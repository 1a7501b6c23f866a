"""A torchvision detector whose parts are spiking networks learns from its own losses."""

import copy

import pytest
import torch

import snnconvert
from snnconvert.data.scenes import CALIBRATION_SEED, TRAINING_SEED, Scenes
from snnconvert.models.scenes import load_scene_retinanet

SETTINGS = snnconvert.ConversionConfig(bits=1, T=2, weight_bits=3)


@pytest.fixture(scope="module")
def detector():
    return load_scene_retinanet()


@pytest.fixture(scope="module")
def converted(detector):
    images = Scenes(8, seed=CALIBRATION_SEED).images()
    return snnconvert.convert(detector, images.split(8), SETTINGS, progress=False)


@pytest.fixture(scope="module")
def batch():
    scenes = [Scenes(4, seed=TRAINING_SEED)[index] for index in range(4)]
    targets = [{"boxes": scene.boxes.float(), "labels": scene.labels} for scene in scenes]
    return [scene.image for scene in scenes], targets


def total(hybrid, batch):
    images, targets = batch
    return sum(hybrid.train()(images, [dict(target) for target in targets]).values())


@pytest.fixture(scope="module")
def learned(converted, batch):
    """The trained network, still in training, and the losses on the way."""
    torch.manual_seed(0)
    hybrid = copy.deepcopy(converted).train()
    optimizer = torch.optim.AdamW(hybrid.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = total(hybrid, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return hybrid, losses


def test_it_starts_with_what_its_integers_lose(detector, converted, batch):
    images, targets = batch
    hybrid = copy.deepcopy(converted)
    expected = copy.deepcopy(detector).eval()
    with torch.no_grad():
        shown, wanted = expected.transform(images, [dict(target) for target in targets])
        features = list(hybrid.parts["backbone"](shown.tensors).values())
        outputs = hybrid.parts["head"](features)
        anchors = expected.anchor_generator(shown, features)
        losses = expected.compute_loss(wanted, outputs, anchors)
    assert float(total(hybrid, batch).detach()) == pytest.approx(float(sum(losses.values())), rel=1e-5)


def test_it_learns(learned):
    _, losses = learned
    assert losses[-1] < 0.8 * losses[0]


def test_what_it_learned_is_what_its_integers_do(learned, detector, batch, tmp_path):
    hybrid = copy.deepcopy(learned[0])
    with torch.no_grad():
        before = float(total(hybrid, batch))
    hybrid.finish_training()
    assert not list(hybrid.parameters())
    hybrid.save(tmp_path / "parts")
    again = snnconvert.HybridModel.load(tmp_path / "parts", detector)
    for found, expected in zip(again(batch[0]), hybrid(batch[0]), strict=True):
        for key, value in expected.items():
            assert torch.equal(found[key], value)
    with torch.no_grad():
        assert float(total(again, batch)) == pytest.approx(before, rel=1e-5)


def test_the_weights_of_what_was_converted_are_gone(converted):
    head = converted.parts["head"].compute_loss.__self__
    assert {parameter.device.type for parameter in head.parameters()} == {"meta"}
