"""Neurons as integer arithmetic: mantissas, integer thresholds, and when floats are never rounded."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from snnconvert.export.spike_arrays import as_array, finest, given_value, largest
from snnconvert.export.spike_tap import Seen
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.integrate_and_fire import CountingCode
from snnconvert.neurons.leaky import LeakyCode
from snnconvert.neurons.neuron import SpikingNeuron

Json = dict[str, Any]
Array = NDArray[Any]
_EXACT_CODES = ("if", "lif", "multithreshold", "ternary")
_COUNTING = "; s = clip(floor(m / threshold), 0, spike_range[1]); reset soft: m <- m - threshold * s, hard: 0 if s > 0"
_BANK = (
    "; s = sign(m) * 2^k with the largest k < bits whose |m| >= 0.75 * threshold * 2^k (rule ecmt: threshold * "
    "(2^k - 0.5)), 0 if there is none; unless signed a negative s is cut to the largest power of two <= "
)
_STEPS = {
    "packed": "word + offset in T digits of bits bits, the most significant first",
    "log": "word k = number of thresholds (words[j - 1] + words[j]) / 2 <= u, in T digits of bits bits, the most "
    "significant first",
    "if": "m <- m + (u + constant_current)" + _COUNTING,
    "lif": "m <- (m - initial) * leak + ((u + constant_current) + initial)" + _COUNTING,
    "multithreshold": "m <- m + u" + _BANK + "the sum of s so far; m <- m - threshold * s",
    "ternary": "m <- m + u; s = 1 if m >= threshold and sum of s < maximum, -1 if m < 0 and sum of s > minimum, "
    "else 0; m <- m - threshold * s",
    "differential": "m <- m + u - threshold * mean" + _BANK + "mean * t; m <- m - threshold * s; mean <- mean + s / t",
    "spikepack": "m <- m + u at the first step; s = 1 if m >= tau^(T - t); m <- m - s * tau^(T - t)",
}


def integer_thresholds(neuron: SpikingNeuron, bits: int) -> tuple[Array, Array]:
    """The smallest integer current v, times the sign of the gain, that reaches each word; by bisection.

    Args:
        neuron: neurons whose closed form is exact.
        bits: 24 or 53, the significand of the type that holds currents; they don't exceed 2^bits.

    Returns:
        int64 [L, ...] for the words minimum + 1 to ceiling, 2^bits + 1 where no current reaches one; and the
        sign, int8. Both broadcast against currents.
    """
    dtype = torch.float32 if bits == 24 else torch.float64
    sign = 1 - 2 * (neuron.gain < 0).to(torch.int64)
    shape = neuron.in_steps(torch.zeros_like(neuron.gain)).shape
    words = torch.arange(int(neuron.code.minimum) + 1, neuron.ceiling + 1, device=sign.device)
    words = words.view(-1, *[1] * len(shape)).expand(-1, *shape)
    low, high = torch.full_like(words, -(1 << bits)), torch.full_like(words, (1 << bits) + 1)
    for _ in range(bits + 2):
        middle = (low + high) >> 1
        fired = neuron.code.quantize_(neuron.in_steps((sign * middle).to(dtype)), neuron.ceiling)
        low, high = torch.where(fired >= words, low, middle + 1), torch.where(fired >= words, middle, high)
    return as_array(high), as_array(sign.to(torch.int8))


def is_exact_in_integers(neuron: SpikingNeuron, read: Seen, *, streams: bool, bits: int) -> bool:
    """Whether the drive and the membrane never need more bits than they have, for what the neurons read."""
    code, membrane = neuron.code, code_settings(neuron.code)
    if code.name not in _EXACT_CODES or membrane.get("leak", 1.0) != 1:
        return False
    constants = [membrane["initial"], membrane.get("constant_current", 0.0)]
    gain, bias = float(neuron.gain.abs().max()), 0.0 if neuron.bias is None else largest(neuron.bias)
    before = min(read.finest, 0 if neuron.bias is None else finest(neuron.bias))
    after = before + finest(neuron.gain)
    held = largest(given_value(read.total)) + bias
    arrived = code.T * (read.reach + read.constant + bias) if streams else held
    total = (arrived if streams else code.T * arrived) * gain + 2 * code.T * (code.T + sum(map(abs, constants)))
    digit = min(after, finest(torch.tensor(constants, dtype=torch.float64)))
    precision = 53 if streams else bits
    fits = arrived < 2.0 ** (precision + before) and arrived * gain < 2.0 ** (precision + after)
    return fits and total < 2.0 ** (53 + digit)


def code_settings(code: SpikeCode) -> Json:
    """What a code's step needs to know; potentials in T-ths of Δ where it streams, else in Δ."""
    found: Json = {"name": code.name, "spike_range": code.spike_range, "settings": code.options()}
    found |= {"minimum": code.minimum, "maximum": code.maximum, "threshold": code.T if code.streams else 1}
    found["initial"] = float(code.initial(torch.zeros(1, dtype=torch.float64)).potential)
    found["step"] = _STEPS.get(code.name, str(type(code).__doc__))
    if code.words:
        found["words"] = code.words
    if isinstance(code, CountingCode):
        found["constant_current"] = code.constant_current()
    if isinstance(code, LeakyCode):
        found["leak"] = code.leak
    return found
