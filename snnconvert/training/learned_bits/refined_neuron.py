"""The refined neuron: quantizes what the spikes before did not carry, over a number of steps that is learned."""

from __future__ import annotations

from torch import Tensor

from snnconvert.training.learned_bits.quantizer import Levels, quantize


def refined_neuron(values: Tensor, step: Tensor, bits: Tensor, T: Tensor, levels: Levels, leak: float = 1.0) -> Tensor:
    """Y = Σ_t o_t / T_g with o_t = Q(m_t), m_1 = x, m_{t+1} = λ·(m_t − o_t) + x and T_g = T̂ + T − sg(T).

    sg stops gradients, so that dL/dT = −(dL/dy·y)/T. With λ = 1, one step γ for all t and x in range it equals one
    uniform quantizer of step γ/T and T·(2^b − 1) + 1 levels.

    Source: Yao et al. (2025). There every t may have bits and a step of its own; here all share them, as the spikes of
    one neuron do.

    Args:
        values: x, the constant input, any shape.
        step: γ, broadcastable to the values.
        bits: b; see :func:`~snnconvert.training.learned_bits.quantizer.quantize`.
        T: a scalar tensor with gradient; T̂ is T rounded, at least 1.
        levels: the integers of one spike.
        leak: λ.
    """
    valid = max(round(float(T.detach())), 1)
    membrane = values
    fired = quantize(membrane, step, bits, levels)
    total = fired
    for _ in range(valid - 1):
        membrane = leak * (membrane - fired).detach() + values
        fired = quantize(membrane, step, bits, levels)
        total = total + fired
    return total / (valid + (T - T.detach()))
