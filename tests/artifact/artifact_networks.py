"""Small networks with random weights and settled BatchNorm statistics, and what the artifact tests share."""

import hashlib
import json

import pytest
import torch
from torch import nn

TENSORS = "model.safetensors"
FILES = ("config.json", "graph.json", TENSORS, "report.json")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.head = nn.Linear(16, 7)

    def forward(self, x):
        x = torch.relu(self.stem_bn(self.stem(x)))
        inner = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return self.head(x.mean((2, 3)))


class ConcatAndPools(nn.Module):
    """A max-pool with two users, a concat of its branches and an average pool."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.left = nn.Conv2d(6, 5, 1)
        self.right = nn.Conv2d(6, 4, 3, padding=1)
        self.average = nn.AvgPool2d(2)
        self.mix = nn.Conv2d(9, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(torch.relu(self.stem(x)))
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        x = torch.relu(self.mix(self.average(x)))
        return self.head(x.mean((2, 3)))


class PreActivation(nn.Module):
    """BatchNorm behind a sum: it folds into no convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv1(torch.relu(self.bn1(x)))
        x = x + self.conv2(torch.relu(self.bn2(x)))
        return self.head(torch.relu(self.bn3(x)).mean((2, 3)))


class TokenMlp(nn.Module):
    """Linear layers on [N, tokens, features]."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 24)
        self.fc2 = nn.Linear(24, 10)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        x = x + self.fc2(torch.relu(self.fc1(x)))
        return self.head(x.mean(1))


class SignedEdge(nn.Module):
    """Two convolutions with no activation between them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(torch.relu(self.conv2(self.conv1(x))).mean((2, 3)))


NETWORKS = {
    "residual": (Residual, (3, 12, 12)),
    "concat": (ConcatAndPools, (3, 12, 12)),
    "preactivation": (PreActivation, (3, 10, 10)),
    "tokens": (TokenMlp, (6, 10)),
    "signed": (SignedEdge, (3, 10, 10)),
}


def settled(network, images, passes=30):
    """Sets BatchNorm statistics from the images."""
    network.train()
    with torch.no_grad():
        for _ in range(passes):
            network(images)
    return network.eval()


def build(name):
    kind, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network, images = kind(), torch.randn(24, *shape)
        return settled(network, images), images


def repair_checksums(folder):
    """Makes the checksums fit files that were changed on purpose."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("graph.json", TENSORS, "report.json"):
        config["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    settings = {key: value for key, value in config.items() if key != "sha256"}
    config["sha256"]["config.json"] = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(config))


def edit_json(folder, name, change):
    """Applies a function to a JSON file's content in place, and makes the checksums fit."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    repair_checksums(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cases(items):
    """Parameters named by their keys."""
    return [pytest.param(item, id=name) for name, item in items.items()]
