import pytest
import torch
from torch import nn

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.models.reproducible import reproducible
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.vgg import vgg8
from snnconvert.training.direct.augment import flip_and_crop
from snnconvert.training.direct.fit import FitSettings, accuracy, fit
from snnconvert.training.direct.settings import NeuronSettings


def bars(count, seed, size=8):
    """Images with a bright row or column, at random places: two classes, as good as separable."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, size, size, generator=generator) * 0.3
    labels = torch.randint(0, 2, (count,), generator=generator)
    places = torch.randint(0, size, (count,), generator=generator)
    for image, label, place in zip(images, labels.tolist(), places.tolist(), strict=True):
        (image[0, place] if label else image[0, :, place]).add_(2.0)
    return images, labels


NEURONS = {
    "if": NeuronSettings("if", 1, 3),
    "lif": NeuronSettings("lif", 2, 2, truncation=1),
    "packed": NeuronSettings("packed", 1, 4),
}


@pytest.mark.parametrize("kind", NEURONS)
def test_spiking_networks_learn(kind):
    with reproducible(0):
        network = vgg8(SmallNetConfig("snn", 1, NEURONS[kind], in_channels=1, classes=2, width=4))
        losses = fit(network, *bars(192, 0), FitSettings(epochs=6, batch_size=32, learning_rate=5e-3))
    assert len(losses) == 6
    assert losses[-1] < 0.6 * losses[0]
    assert accuracy(network, *bars(200, 1)) > 0.85
    assert not network.training


def test_event_frames_are_cut_along_examples():
    images, labels = bars(96, 0)
    frames = images.expand(3, -1, -1, -1, -1) * torch.tensor([1.0, 0.5, 1.5]).view(3, 1, 1, 1, 1)
    with reproducible(0):
        network = vgg8(SmallNetConfig("snn", 2, NEURONS["if"], in_channels=1, classes=2, width=4))
        losses = fit(network, frames, labels, FitSettings(epochs=6, batch_size=32), flip_and_crop(1))
    assert losses[-1] < losses[0]
    assert accuracy(network, frames, labels, 40) == accuracy(network, frames, labels, 96)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_same_seed_gives_the_same_weights(optimizer):
    ends = []
    for seed in (3, 3, 4):
        with reproducible(0):
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
            fit(network, *bars(64, 0), FitSettings(epochs=2, optimizer=optimizer, seed=seed), flip_and_crop(1))
            ends.append(network[1].weight.detach())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_accuracy_counts():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(2))
    inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [3.0, 1.0]]).view(4, 2, 1, 1)
    assert accuracy(network, inputs, torch.tensor([0, 1, 1, 0]), batch_size=3) == 0.75


def test_every_frame_and_channel_moves_alike_and_nothing_is_invented():
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(2, 50, 3, 6, 7, generator=generator) + 1
    moved = flip_and_crop(2)(batch, generator)
    assert moved.shape == batch.shape
    seen = set()
    for image, source in zip(moved.transpose(0, 1), batch.transpose(0, 1), strict=True):
        found = [
            (flipped, dy, dx)
            for flipped in (False, True)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(image, _moved(source.flip(-1) if flipped else source, dy, dx))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 25


def _moved(image, dy, dx):
    rolled = nn.functional.pad(image, (2, 2, 2, 2))
    return rolled[..., 2 + dy : 2 + dy + image.shape[-2], 2 + dx : 2 + dx + image.shape[-1]]


def test_without_flip_and_padding_batches_stay():
    batch = torch.rand(4, 1, 5, 5)
    assert torch.equal(flip_and_crop(0, flip=False)(batch, torch.Generator()), batch)
    with pytest.raises(ConfigurationError, match="padding"):
        flip_and_crop(-1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"optimizer": "adam"}, "one of adamw"), ({"epochs": 0}, "epochs"), ({"learning_rate": 0.0}, "learning_rate"),
     ({"warmup": 1.0}, "warmup"), ({"weight_decay": -1.0}, "weight_decay"), ({"seed": -1}, "seed")],
)  # fmt: skip
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        FitSettings(**fields)


def test_bad_examples_are_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images, labels = bars(8, 0)
    with pytest.raises(InputError, match="hold 8 examples, labels 7"):
        fit(network, images, labels[:7])
    with pytest.raises(InputError, match="lower learning_rate"):
        fit(network, images * float("nan"), labels, FitSettings(epochs=1))
