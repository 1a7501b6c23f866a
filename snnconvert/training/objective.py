"""What fine-tuning minimizes: cross-entropy with the labels and divergence from the ANN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.errors import InputError
from snnconvert.training.config import FinetuneConfig


def divergence(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """τ²·KL(softmax(r/τ) ‖ softmax(y/τ)), the mean over samples and positions (Hinton et al., 2015).

    Args:
        logits: y [N, classes, ...].
        reference: r, of the same shape.
        temperature: τ.
    """
    student = F.log_softmax(logits.float() / temperature, 1)
    teacher = F.log_softmax(reference.float() / temperature, 1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1).mean()


def task_loss(logits: Tensor, labels: Tensor | None, reference: Tensor | None, config: FinetuneConfig) -> Tensor:
    """(1 − d)·CE + d·τ²·KL; of outputs other than logits the squared error to the ANN's, relative to their variance.

    Args:
        logits: what the network gives.
        labels: int64 [N, ...], or None.
        reference: what the ANN gives, or None.
        config: for d and τ.

    Raises:
        InputError: if there are neither labels nor an ANN, or a label names no class.
    """
    if labels is None and reference is None:
        raise InputError("there is nothing to learn from: give labels, an ANN to distil from, or both")
    total = torch.zeros((), device=logits.device)
    share = 0.0 if reference is None else 1.0 if labels is None else config.distillation
    if labels is not None and share < 1:
        if int(labels.max()) >= logits.shape[1] or int(labels.min()) < 0:
            raise InputError(f"labels must lie in 0..{logits.shape[1] - 1}, got {int(labels.min())}..{labels.max()}")
        total = total + (1 - share) * F.cross_entropy(logits.float(), labels)
    if reference is not None and share > 0:
        total = total + share * divergence(logits, reference, config.temperature)
    return total
