"""The packed neuron: integrates a whole window of current, then fires T spikes of b bits at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.neurons.code import PackedCode


def fire_packed(
    potential: Tensor, gain: Tensor, bias: Tensor | None, code: PackedCode, ceiling: int | None = None
) -> Tensor:
    """Fires z = clip(rne((v + β)·g), −o, 2^(bT)−1−o), rne rounding half to even.

    One addition and one multiplication, each rounded once, on an exactly known potential: every
    engine that computes them in its type (float32; float64 for wide potentials) fires the same spikes.
    Source: parallel form of SpikePack (Shen et al., ICCV 2025) with the least significant digit's
    threshold θ_LSB = 1/g; the placement of the rounding is a reconstruction.

    Args:
        potential: membrane potential v, float, any shape.
        gain: g = unit of v divided by the step Δ of the code; scalar or broadcastable to v.
        bias: β in units of v, broadcastable to v, or None.
        code: the packed code.
        ceiling: a lower upper clip, for a capped rectifier; None for the code's own.

    Returns:
        float32 integers of v's shape.
    """
    shifted = potential if bias is None else potential + bias
    words = torch.mul(shifted, gain).round_().clamp_(code.minimum, code.maximum if ceiling is None else ceiling)
    return words.to(torch.float32)


def _read_code(neuron: PackedNeuron, _: object) -> None:
    bits, T, offset, ceiling = neuron.digits.tolist()
    neuron.code, neuron.ceiling = PackedCode(bits, T, offset), ceiling


class PackedNeuron(nn.Module):
    """A layer of packed neurons: membrane potential in, packed words out.

    Buffers:
        gain: float32 scalar or [C, 1, ...], potential units per code step.
        bias: the same shape, or None; a constant current in potential units.
        step: float32 scalar, the value Δ of the least significant digit in the ANN's units.
        digits: int64 [4], bits, T and offset of the code, and the largest word fired.
    """

    digits: Tensor
    gain: Tensor
    bias: Tensor | None
    step: Tensor

    def __init__(
        self,
        code: PackedCode,
        gain: Tensor,
        step: Tensor,
        bias: Tensor | None = None,
        *,
        ceiling: int | None = None,
    ) -> None:
        super().__init__()
        self.code = code
        self.ceiling = code.maximum if ceiling is None else ceiling
        self.register_buffer("digits", torch.tensor([code.bits, code.T, code.offset, self.ceiling]))
        self.register_buffer("gain", gain.to(torch.float32))
        self.register_buffer("step", step.to(torch.float32))
        self.register_buffer("bias", None if bias is None else bias.to(torch.float32))
        self.register_load_state_dict_post_hook(_read_code)  # type: ignore[no-untyped-call]

    @property
    def threshold(self) -> float:
        """θ = Δ·(2^(bT) − 1), the span of values the code covers, in the ANN's units."""
        return float(self.step.double()) * (self.code.levels - 1)

    def forward(self, potential: Tensor) -> Tensor:
        """Fires on a membrane potential; see :func:`fire_packed`."""
        return fire_packed(potential, self.gain, self.bias, self.code, self.ceiling)

    def extra_repr(self) -> str:
        """Code and threshold for printing."""
        return f"bits={self.code.bits}, T={self.code.T}, offset={self.code.offset}, threshold={self.threshold:.4g}"
