"""Small networks whose converted forms are trained, and what the tests of training compare."""

import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn

import snnconvert
from snnconvert.data.digits import digits_preprocessing, digits_split, load_digits_arrays
from snnconvert.models.digits import load_digits_net

IMAGE = (3, 8, 8)


class ResNet(nn.Module):
    """Two residual sums, one behind a convolution and one not, each convolution with its BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = normed(3, 6), normed(6, 8, stride=2), normed(8, 8)
        self.shortcut, self.third, self.head = nn.Conv2d(6, 8, 1, stride=2), normed(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
        return self.head(F.relu(self.third(x) + x).mean((2, 3)))


class PartialSums(nn.Module):
    """Currents of fewer channels than the sum they enter, and channels of that sum on their own."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), normed(4, 6), normed(6, 8)
        self.third, self.head = nn.Conv2d(8, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.second(F.relu(self.first(x)))
        front, back = y.split([4, 4], 1)
        y = F.relu(torch.cat([front + x, back], 1))
        return self.head(F.relu(self.third(y) + back).mean((2, 3)))


def normed(inputs, outputs, kernel=3, **settings):
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def depthwise():
    return nn.Sequential(
        normed(3, 8), nn.ReLU6(), normed(8, 8, groups=8, stride=2), nn.ReLU6(), normed(8, 6, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip


def gelu():
    return nn.Sequential(
        normed(3, 6), nn.GELU(), nn.Conv2d(6, 6, 3, 2), nn.SiLU(), nn.Conv2d(6, 4, 1), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(36, 5),
    )  # fmt: skip


def transposed():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 4, 2, 1, groups=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def vit():
    import timm

    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
    return timm.models.VisionTransformer(**settings)


NETWORKS = {
    "resnet": (ResNet, IMAGE), "depthwise": (depthwise, IMAGE), "gelu": (gelu, IMAGE),
    "transposed": (transposed, IMAGE), "vit": (vit, (3, 32, 32)), "partial sums": (PartialSums, IMAGE),
}  # fmt: skip


@functools.cache
def network(name):
    """An ANN with settled BatchNorms, and images for it."""
    if name == "digits":
        images, _ = digits()
        return load_digits_net().eval(), images[:64]
    build, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        images, ann = torch.randn(16, *shape), build().train()
        with torch.no_grad():
            for _ in range(20):
                ann(images)
    return ann.eval(), images


@functools.cache
def digits():
    """Training images and labels of the handwritten digits."""
    images, labels = load_digits_arrays()
    chosen = torch.tensor(digits_split(labels)[0])
    preprocessing = digits_preprocessing()
    normalized = (torch.tensor(images) - preprocessing.mean[0]) / preprocessing.std[0]
    return normalized.unsqueeze(1)[chosen], torch.tensor(labels)[chosen]


@functools.cache
def _converted(name, settings):
    ann, images = network(name)
    return snnconvert.convert(ann, images, snnconvert.ConversionConfig(**dict(settings)), progress=False)


def converted(name, **settings):
    """A converted network of one's own, and images for it."""
    return copy.deepcopy(_converted(name, tuple(settings.items()))), network(name)[1]


def learn(snn, images, steps=3, rate=0.01, labels=None):
    """A few optimizer steps; the losses."""
    labels = torch.arange(len(images)) % 5 if labels is None else labels
    optimizer = torch.optim.Adam([parameter for parameter in snn.parameters() if parameter.requires_grad], rate)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(snn(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def output(snn, images):
    """What it gives in the mode it is in."""
    return snn(images)
