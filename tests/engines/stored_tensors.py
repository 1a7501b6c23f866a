"""Reads the tensors of a saved network as its format says, bit by bit; shares no code with the package."""

import json
import math

import numpy as np
from safetensors.numpy import load_file


def read_tensors(folder):
    """All tensors of a folder by name, in their own types."""
    stored = load_file(folder / "model.safetensors")
    forms = json.loads((folder / "graph.json").read_text()).get("tensors", {})
    return {**stored, **{name: _restored(name, form, stored) for name, form in forms.items()}}


def _restored(name, form, stored):
    if "bits" in form:
        return _weights(stored[name], form["shape"], form["bits"], stored.get(f"{name}.widths"))
    values = stored[name].astype(form["dtype"])
    if "scale" in form:
        values = values * float.fromhex(form["scale"])
    if "shape" not in form:
        return values
    bits = max(1, math.ceil(math.log2(len(values))))
    indices = _numbers(stored[f"{name}.indices"], math.prod(form["shape"]), bits)
    return np.array([values[index] for index in indices]).reshape(form["shape"])


def _weights(data, shape, bits, widths):
    channels, size = shape[0], math.prod(shape[1:])
    widths = [bits] * channels if bits is not None else [less + 1 for less in _numbers(widths, channels, 3)]
    weights = np.zeros((channels, size), dtype=np.int8)
    for width in range(1, 9):
        own = [channel for channel in range(channels) if widths[channel] == width]
        taken = (len(own) * size * width + 7) // 8
        numbers = iter(_numbers(data[:taken], len(own) * size, width))
        for channel in own:
            weights[channel] = [_signed(next(numbers), width) for _ in range(size)]
        data = data[taken:]
    return weights.reshape(shape)


def _signed(number, width):
    if width == 1:
        return 2 * number - 1
    return number - (1 << width) if number >> width - 1 else number


def _numbers(data, count, width):
    digits = "".join(f"{byte:08b}"[::-1] for byte in data.tolist())
    return [int(digits[place * width : (place + 1) * width][::-1], 2) for place in range(count)]
