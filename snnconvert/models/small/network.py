"""What all small networks do with time: how images and events come in, and how logits come out."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from snnconvert.errors import InputError
from snnconvert.models.small.config import SmallNetConfig


class SmallNet(nn.Module):
    """A network in one of its forms.

    Images [N, C, H, W] come in as currents: where neurons integrate over time, the first layer runs once and its
    result drives the neurons behind it at every step. Events [T, N, C, H, W] come in frame by frame; networks without
    steps (ANN, QNN, packed neurons) see the mean frame. Logits are the mean over T of the last layer's potential.

    Inside, the steps of a window are rows: [T·N, ...], all images of the first step first.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: SmallNetConfig) -> None:
        super().__init__()
        self.config = config

    def first_current(self, rows: Tensor) -> Tensor:
        """What drives the first neurons: rows [R, C, H, W] to [R, C', H', W']."""
        raise NotImplementedError

    def head(self, rows: Tensor) -> Tensor:
        """From the current of the first neurons to logits: [T·N, C', H', W'] to [T·N, classes]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits float32 [N, classes].

        Args:
            x: images float32 [N, C, H, W] or event frames float32 [T, N, C, H, W].

        Raises:
            InputError: on other shapes, or if a spiking network gets another number of frames than its T.
        """
        steps = self.config.steps
        if steps == 1:
            return self.head(self.first_current(whole_window(x)))
        if x.dim() == 5:
            if x.shape[0] != steps:
                raise InputError(f"the network has T = {steps}, got {x.shape[0]} frames: bin events into {steps}")
            current = self.first_current(x.flatten(0, 1))
        else:
            current = self.first_current(whole_window(x))
            current = current.expand(steps, *current.shape).flatten(0, 1)
        return torch.unflatten(self.head(current), 0, (steps, -1)).mean(0)


@fx.wrap  # symbolic tracing can't follow what depends on shapes
def whole_window(x: Tensor) -> Tensor:
    """What a network without steps sees: images as they are, of event frames the mean over T.

    Args:
        x: float32 [N, C, H, W] or [T, N, C, H, W].

    Returns:
        float32 [N, C, H, W].

    Raises:
        InputError: on other shapes.
    """
    if x.dim() == 5:
        return x.mean(0)
    if x.dim() != 4:
        raise InputError(f"images are [N, C, H, W], event frames [T, N, C, H, W]; got {list(x.shape)}")
    return x


def carry_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies weights and norms of a network to another form of it; thresholds stay as they are.

    Args:
        source: where from, such as a trained ANN.
        target: the network that gets them.

    Raises:
        InputError: if topologies differ, naming the first tensor that does.
    """
    given, own = _weights(source), _weights(target)
    for name in sorted(given.keys() ^ own.keys()):
        raise InputError(f"{name} is in only one of the two networks: build both with the same function and width")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise InputError(
                f"{name} is {list(given[name].shape)} in the one, {list(tensor.shape)} in the other network"
            )
    target.load_state_dict({**target.state_dict(), **given})


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(".log_threshold")}
