"""A layer of spiking neurons as a module: the code, and the scale from potential to the code's steps."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from snnconvert.neurons.code import SpikeCode


def _read_code(neuron: SpikingNeuron, _: object) -> None:
    bits, T, offset, signed, ceiling = neuron.digits.tolist()
    neuron.code = dataclasses.replace(neuron.code, bits=bits, T=T, offset=offset, signed=bool(signed))
    neuron.ceiling = ceiling


class SpikingNeuron(nn.Module):
    """A layer of neurons: membrane potential of a whole window in, values of their spike trains out.

    Called, it computes the code's closed form, z = quantize((v + β)·g): what the neurons fire for a
    constant current. For the packed code that is exactly what they fire for any; for the others the
    stepwise engine decides.

    Buffers:
        gain: float32 scalar or broadcastable to the potential, one a channel; g, code steps per potential unit.
        bias: the same, [1, C, H, W] or alike where each neuron has its own, or None; β, a constant current in potential
            units: what neurons that fire once the whole window has arrived start at.
        step: float32 scalar or broadcastable, the value Δ of the code's step in the ANN's units, for all or for
            each channel.
        digits: int64 [5], bits, T, offset and sign of the code, and the largest value fired.
    """

    digits: Tensor
    gain: Tensor
    bias: Tensor | None
    step: Tensor

    def __init__(
        self,
        code: SpikeCode,
        gain: Tensor,
        step: Tensor,
        bias: Tensor | None = None,
        *,
        ceiling: int | None = None,
    ) -> None:
        super().__init__()
        self.code = code
        self.ceiling = math.ceil(code.maximum) if ceiling is None else ceiling
        settings = [code.bits, code.T, code.offset, int(code.signed), self.ceiling]
        self.register_buffer("digits", torch.tensor(settings))
        self.register_buffer("gain", gain.to(torch.float32))
        self.register_buffer("step", step.to(torch.float32))
        self.register_buffer("bias", None if bias is None else bias.to(torch.float32))
        self.register_load_state_dict_post_hook(_read_code)  # type: ignore[no-untyped-call]

    @property
    def threshold(self) -> float:
        """θ = Δ·(largest − smallest value), the span the code covers, in the ANN's units; of the largest Δ_c."""
        return float(self.step.double().max()) * self.code.span

    @property
    def is_capped(self) -> bool:
        """Whether a capped rectifier saturates the neurons below the code's largest value."""
        return self.ceiling < self.code.maximum

    @property
    def is_uniform(self) -> bool:
        """Whether all neurons fire alike on one potential: u = g·v with one g, and no bias."""
        return self.bias is None and self.gain.numel() == 1

    def in_steps(self, potential: Tensor) -> Tensor:
        """(v + β)·g, a new tensor: one addition and one multiplication, each rounded once.

        On an exactly known potential every engine that computes them in the potential's type gets the same number.
        """
        if self.bias is None:
            return torch.mul(potential, self.gain)
        return (potential + self.bias).mul_(self.gain)

    def window_in_steps(self, potential: Tensor) -> Tensor:
        """The whole window's potential in steps; of words (f32(v) + β)·g in float32.

        Runtimes know potentials, however wide, as float32 numbers; so that all engines agree, this one does, too.
        """
        return self.in_steps(potential.to(torch.float32) if self.code.exact else potential)

    def constant_in_steps(self, constant: Tensor | None) -> Tensor | None:
        """(c + β)·g of a constant current c, float64; None if there is neither."""
        if constant is None and self.bias is None:
            return None
        total = (0.0 if constant is None else constant.double()) + (0.0 if self.bias is None else self.bias.double())
        return torch.as_tensor(total) * self.gain.double()

    def forward(self, potential: Tensor) -> Tensor:
        """Values of the windows fired, float32 of the potential's shape."""
        return self.code.quantize_(self.window_in_steps(potential), self.ceiling).to(torch.float32)

    def extra_repr(self) -> str:
        """Code and threshold for printing."""
        return f"{self.code}, threshold={self.threshold:.4g}"
