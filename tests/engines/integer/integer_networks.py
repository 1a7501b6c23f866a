"""Networks for the integer engines, and how their words and outputs are compared with the packed network's."""

import dataclasses

import engine_networks
import torch
import torch.nn.functional as F
from engine_networks import IMAGE, Net, conv, packed_words
from torch import nn

from snnconvert.engines.integer.built_model import temporary_model
from snnconvert.engines.integer.dialect import DIALECTS
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.onnxruntime_runtime import OnnxRuntime
from snnconvert.engines.integer.openvino_runtime import OpenVino
from snnconvert.engines.integer.runtime import RuntimeOptions

RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
FREE = {"threshold_granularity": "channel", "potential_correction": True}
SMOOTHED = {"threshold_granularity": "smoothed", "potential_correction": True}
COARSE = {"bits": 2, "T": 1, "shortcut_bits": 2, "last_bits": 2}


SHIFTED = {"threshold_granularity": "smoothed", "channel_shift": True}


def bottlenecks():
    """Signed values with channels far from 0, which layers without padding read."""
    net = nn.Sequential(
        conv(3, 6), nn.ReLU(), conv(6, 4, 1), conv(4, 8, 1), nn.ReLU(), conv(8, 8, groups=8), nn.ReLU(), conv(8, 4, 1),
        conv(4, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip
    with torch.no_grad():
        for index in (2, 7):
            net[index].bias += torch.tensor([2.0, -3.0, 1.0, 0.5])
    return net


def transposed():
    """Groups with scales of their own among them."""
    return nn.Sequential(
        conv(3, 6), nn.ReLU(), nn.ConvTranspose2d(6, 8, 3, 2, 1, 1), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 2, 2, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, 1, 1), nn.ReLU(),
        nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def transposed_1d():
    return nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1), nn.ConvTranspose1d(6, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 5)
    )


def transposed_3d():
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(4, 3, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(1536, 5),
    )  # fmt: skip


def smooth():
    return nn.Sequential(
        conv(3, 6), nn.GELU(), nn.MaxPool2d(2), conv(6, 6), nn.SiLU(), conv(6, 6), nn.Hardswish(),
        conv(6, 6, groups=6), nn.ELU(), conv(6, 4), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def leaky():
    return nn.Sequential(
        conv(3, 6), nn.LeakyReLU(0.1), conv(6, 6), nn.PReLU(6), conv(6, 6), nn.MaxPool2d(2), nn.PReLU(), conv(6, 4),
        nn.LeakyReLU(0.3), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def odd_pools():
    """Average pools of 3 x 3 and 3 x 1, of words and of currents, and a global one."""
    return nn.Sequential(
        conv(3, 6), nn.ReLU(), nn.AvgPool2d(3, 2, 1), conv(6, 6), nn.ReLU(), nn.AvgPool2d(3, 1), conv(6, 6, 1),
        nn.AvgPool2d((3, 1), 1, (1, 0)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip


def signed_pools():
    return nn.Sequential(
        conv(3, 6), nn.AvgPool2d(3, 1, 1), conv(6, 6), nn.MaxPool2d(3, 2, 1), conv(6, 4), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip


def mixtures():
    """Concats of words, currents, tables and pools, and the mean of one over all positions."""

    def forward(n, x):
        parts = [F.relu(n.a(x)), n.b(x), F.gelu(n.c(x)), F.max_pool2d(n.d(x), 3, 1, 1)]
        x = torch.cat(parts, 1)
        return n.head(torch.cat([F.relu(n.e(x)), F.avg_pool2d(x, 3, 1, 1)], 1).mean((2, 3)))

    parts = {name: conv(3, 3) for name in "abcd"}
    return Net(forward, **parts, e=conv(12, 4), head=nn.Linear(16, 5))


def wide_sums():
    """Three currents in one sum, which a table and another sum read."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        y = n.a(x) + n.b(x) + n.c(x)
        return n.head(F.relu(n.d(F.gelu(y) + x) + y).mean((2, 3)))

    return Net(
        forward, stem=conv(3, 6), a=conv(6, 6), b=conv(6, 6, 1), c=conv(6, 6, groups=6), d=conv(6, 6),
        head=nn.Linear(6, 5),
    )  # fmt: skip


engine_networks.NETWORKS.update(
    {
        "transposed": (transposed, IMAGE),
        "transposed_1d": (transposed_1d, (4, 10)),
        "transposed_3d": (transposed_3d, (2, 4, 4, 4)),
        "smooth": (smooth, IMAGE),
        "leaky": (leaky, IMAGE),
        "odd_pools": (odd_pools, IMAGE),
        "signed_pools": (signed_pools, IMAGE),
        "mixtures": (mixtures, IMAGE),
        "wide_sums": (wide_sums, IMAGE),
        "bottlenecks": (bottlenecks, IMAGE),
    }
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Words that differ, by layer, as (how many, by how much), and outputs of the runtime and of the packed network."""

    words: int
    differing: dict[str, tuple[int, int]]
    output: torch.Tensor
    expected: torch.Tensor


def compared(snn, images, engine):
    """Runs a network with one input and one output in a runtime, all words observed."""
    built = integer_model(snn.network, snn.signature, DIALECTS[engine], observed=True)
    stored = temporary_model(built.model)
    runtime = RUNTIMES[engine](stored.path, RuntimeOptions(threads=2))
    output, *found = runtime.run(snn.signature.flatten((images,), {}))
    expected = packed_words(snn.network, images)
    assert [item.layer for item in built.words] == list(expected) == [name for name, _ in snn.neurons()]
    differing, words = {}, 0
    for item, fired in zip(built.words, found, strict=True):
        assert fired.dtype in (torch.uint8, torch.int8)
        distance = (fired.int() - item.zero_point - expected[item.layer].int()).abs()
        words += distance.numel()
        if distance.any():
            differing[item.layer] = int(distance.count_nonzero()), int(distance.max())
    return Comparison(words, differing, output, snn(images))
