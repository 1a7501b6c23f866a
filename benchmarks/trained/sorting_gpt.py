"""minGPT's gpt-nano, trained to sort six letters of three kinds."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.real_data import require_data
from benchmarks.trained.task import Figures, Task
from snnconvert.report.statistics import paired_difference_ci95

LETTERS, LENGTH = 3, 6
_CALIBRATION_STRIDE = 5
_WEIGHTS = "gpt-nano-sort-model.json"
_HEADS, _LAYERS, _WIDTH, _BLOCK = 3, 3, 48, 2 * LENGTH - 1


class Attention(nn.Module):
    """Causal self-attention."""

    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.c_attn = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.c_proj = nn.Linear(_WIDTH, _WIDTH)
        self.register_buffer("bias", torch.tril(torch.ones(1, 1, _BLOCK, _BLOCK)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, width] to the same shape."""
        n, length, width = x.shape
        query, key, value = (
            part.view(n, length, _HEADS, width // _HEADS).transpose(1, 2) for part in self.c_attn(x).split(width, 2)
        )
        weights = query @ key.transpose(-2, -1) / math.sqrt(width // _HEADS)
        weights = weights.masked_fill(self.bias[:, :, :length, :length] == 0, float("-inf")).softmax(-1)
        result: Tensor = self.c_proj((weights @ value).transpose(1, 2).reshape(n, length, width))
        return result


class Mlp(nn.Module):
    """Two linear layers with GELU in its tanh form between."""

    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(_WIDTH, 4 * _WIDTH)
        self.c_proj = nn.Linear(4 * _WIDTH, _WIDTH)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, width] to the same shape."""
        result: Tensor = self.c_proj(self.act(self.c_fc(x)))
        return result


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, width] to the same shape."""
        x = x + self.attn(self.ln_1(x))
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class Transformer(nn.Module):
    """Embeddings of letters and places, the blocks, and a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(LETTERS, _WIDTH), nn.Embedding(_BLOCK, _WIDTH)
        self.h = nn.Sequential(*(Block() for _ in range(_LAYERS)))
        self.ln_f = nn.LayerNorm(_WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, L] to features [N, L, width]."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        result: Tensor = self.ln_f(self.h(self.wte(tokens) + self.wpe(places)))
        return result


class SortingGpt(nn.Module):
    """Tokens int64 [N, L] of at most eleven places to logits [N, L, letters] of the next letter."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer()
        self.lm_head = nn.Linear(_WIDTH, LETTERS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the letter after each place."""
        result: Tensor = self.lm_head(self.transformer(tokens))
        return result


def task(images: int | None = None) -> Task:
    """Share of the inputs that are sorted without a mistake; calibrated on every fifth with its answer.

    The network takes token ids: integers, which the loader gives by the name of their argument.

    Args:
        images: how many sequences to evaluate on at most, evenly spread.
    """
    ann = load_sorting_gpt(require_data("gpt_nano_sort"))
    letters = all_inputs()
    calibration = torch.cat([letters, letters.sort(1).values], 1)[::_CALIBRATION_STRIDE, :_BLOCK]
    chosen = letters[:: max(1, len(letters) // (images or len(letters)))][:images]
    return Task(
        "gpt-nano, sorting",
        "sorted right",
        ann,
        [lambda: [{"tokens": calibration}]],
        f"{len(calibration)} of all inputs with their answers",
        partial(_sorted_right, ann, chosen),
    )


def _sorted_right(ann: nn.Module, letters: Tensor, snns: Sequence[nn.Module]) -> Figures:
    answers = letters.sort(1).values
    ann_right, snn_right = ((sort(network, letters) == answers).all(1) for network in (ann, *snns))
    only_ann, only_snn = int((ann_right & ~snn_right).sum()), int((snn_right & ~ann_right).sum())
    return Figures(
        float(ann_right.double().mean()),
        float(snn_right.double().mean()),
        len(letters),
        difference_ci95=paired_difference_ci95(only_ann, only_snn, len(letters)),
    )


def load_sorting_gpt(folder: Path) -> SortingGpt:
    """The trained network in evaluation mode.

    Args:
        folder: the folder of the weights.
    """
    saved = json.loads((folder / _WEIGHTS).read_text(encoding="utf-8"))
    network = SortingGpt()
    network.load_state_dict({name: _tensor(item) for name, item in saved.items() if name != "config"})
    return network.eval()


def _tensor(item: dict[str, str | list[int]]) -> Tensor:
    values = np.frombuffer(base64.b64decode(str(item["data"])), "<f4")
    return torch.from_numpy(values.copy()).view(*(int(size) for size in item["shape"]))


def all_inputs() -> Tensor:
    """Every sequence of six letters, int64 [729, 6]."""
    return torch.tensor(list(itertools.product(range(LETTERS), repeat=LENGTH)))


def sort(network: nn.Module, letters: Tensor) -> Tensor:
    """What a network answers, the likeliest letter after the other, int64 [N, 6].

    It always gets all eleven places; what it says of one doesn't depend on those behind, which are zeros.
    """
    tokens = nn.functional.pad(letters, (0, LENGTH))
    with torch.no_grad():
        for place in range(LENGTH, 2 * LENGTH):
            tokens[:, place] = network(tokens[:, :_BLOCK])[:, place - 1].argmax(-1)
    return tokens[:, LENGTH:]
