"""Networks whose outputs are written down beforehand, and random boxes."""

import torch
from torch import nn


class Scripted(nn.Module):
    """Returns the next of the given outputs, whatever it is called with."""

    def __init__(self, outputs):
        super().__init__()
        self._outputs = iter(outputs)

    def forward(self, _):
        return next(self._outputs)


def random_detections(generator, count, classes=3, jitter_of=None):
    """Boxes of an image of 100 x 100: labels, or detections around labels and elsewhere."""
    corner = torch.rand(count, 2, generator=generator) * 70
    size = torch.rand(count, 2, generator=generator) * 25 + 4
    boxes = torch.cat([corner, corner + size], 1)
    labels = torch.randint(1, classes + 1, (count,), generator=generator)
    if jitter_of is not None and len(jitter_of["labels"]):
        chosen = torch.randint(len(jitter_of["labels"]), (count,), generator=generator)
        near = torch.rand(count, generator=generator) < 0.8
        moved = jitter_of["boxes"][chosen] + torch.randn(count, 4, generator=generator)
        boxes = torch.where(near[:, None], moved, boxes)
        labels = torch.where(near, jitter_of["labels"][chosen], labels)
    scores = torch.rand(count, generator=generator)
    return {"boxes": boxes, "labels": labels, "scores": scores}
