"""The embedded network: a small residual network for scikit-learn's handwritten digits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from snnconvert.models.checkpoint import apply_state_dict, load_state_dict

DIGITS_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a residual connection.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        stride: Of the first convolution; with stride or width changing, the shortcut is a convolution too.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Computes relu(shortcut(x) + branch(x)).

        Args:
            x: [N, in_channels, H, W].

        Returns:
            [N, out_channels, H / stride, W / stride].
        """
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(self.shortcut(x) + branch)
        return out


class DigitsNet(nn.Module):
    """A residual network with 56,000 parameters for grey images of 8 x 8 pixels.

    Args:
        num_classes: Outputs of the classifier.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.block1 = BasicBlock(32, 32)
        self.block2 = BasicBlock(32, 48, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies digits.

        Args:
            x: [N, 1, 8, 8], normalized with `snnconvert.data.digits.digits_preprocessing`.

        Returns:
            Logits [N, num_classes].
        """
        features = self.pool(self.block2(self.block1(self.stem(x))))
        logits: Tensor = self.fc(torch.flatten(features, 1))
        return logits


def load_digits_net() -> DigitsNet:
    """Loads the embedded network with its trained weights.

    Returns:
        The network in evaluation mode.

    Raises:
        InputError: The installed weights file is missing or damaged.
    """
    network = DigitsNet()
    apply_state_dict(network, load_state_dict(DIGITS_WEIGHTS), source=DIGITS_WEIGHTS.name)
    return network.eval()
