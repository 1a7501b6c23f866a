"""Networks that take or return more than one tensor, and functional code that plain layers don't show."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Answer:
    logits: object = None
    loss: object = None
    hidden: object = None


class TwoInputs(nn.Module):
    """Two images and an optional mask in, a dict of nested outputs out."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)
        self.dense = nn.Conv2d(8, 2, 1)

    def forward(self, left, right, mask=None, scale=1.0):
        x = torch.relu(self.left(left) + self.right(right))
        if mask is not None:
            x = x * mask[:, None].to(x.dtype)
        pooled = x.mean((2, 3)) * scale
        return {"logits": self.head(pooled), "dense": [self.dense(x), None, 3], "mask": mask}


class FeatureHead(nn.Module):
    """A head with the same weights for every feature map of a list, as detectors have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.score = nn.Conv2d(4, 2, 1)

    def forward(self, features):
        return [self.score(torch.relu(self.conv(feature))) for feature in features]


class Returns(nn.Module):
    """A small network that returns what a function makes of its logits and features."""

    def __init__(self, shape):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)
        self.shape = shape

    def forward(self, x):
        features = self.body(x)
        return self.shape(self.head(features.mean((2, 3))), features)


RESULTS = {
    "tuple": lambda logits, features: (logits, features),
    "list": lambda logits, features: [logits, features],
    "one in a tuple": lambda logits, features: (logits,),
    "dict": lambda logits, features: {"logits": logits, "features": features},
    "ordered": lambda logits, features: OrderedDict(out=logits, aux=features),
    "namedtuple": lambda logits, features: Pair(logits, features),
    "dataclass": lambda logits, features: Answer(logits, hidden=(features, features)),
    "nested": lambda logits, features: {"a": [logits, {"b": (features, None, 7, "word")}]},
    "integers": lambda logits, features: (logits, logits.argmax(1)),
}


class Functional(nn.Module):
    """Reused layers, tied weights, checkpoints, in-place operations, and control flow on shapes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.tied = nn.Conv2d(4, 4, 3, padding=1)
        self.tied.weight = self.conv.weight
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1) for _ in range(2)])
        self.blocks.append(self.blocks[0])
        self.embedding = nn.Linear(4, 6, bias=False)

    def block(self, x):
        return torch.relu(self.tied(x))

    def forward(self, x):
        for _ in range(2):
            x = F.relu(self.conv(x), inplace=True)
        x = x + checkpoint(self.block, x, use_reentrant=False)
        for block in self.blocks:
            x += block(x).relu_()
        if x.shape[-1] > 4:
            x = F.max_pool2d(x, 2)
        if x.dim() == 4:
            x = x.mean((2, 3))
        hidden = torch.relu(self.embedding(x))
        return F.linear(hidden, self.embedding.weight.t())
