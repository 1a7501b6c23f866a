import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.registry import make_code

SHAPES = [(bits, T) for bits, T in itertools.product(range(1, 9), repeat=2) if bits * T <= 8]


@pytest.mark.parametrize(("bits", "T"), SHAPES)
@pytest.mark.parametrize("position", [0.0, 0.37, 1.0])
def test_every_word_survives_its_spikes(bits, T, position):
    offset = round(position * (2 ** (bits * T) - 1))
    code = PackedCode(bits, T, offset)
    values = torch.arange(code.minimum, code.maximum + 1)
    assert len(values) == code.levels == 2 ** (bits * T)
    spikes = code.to_spikes(values)
    assert spikes.shape == (T, len(values))
    assert int(spikes.min()) == 0
    assert int(spikes.max()) == 2**bits - 1
    assert torch.equal(code.from_spikes(spikes).long(), values)


@pytest.mark.parametrize(("bits", "T"), SHAPES)
def test_digits_are_written_most_significant_first(bits, T):
    code = PackedCode(bits, T)
    base = 2**bits
    for word in range(code.levels):
        digits, rest = [], word
        for _ in range(T):
            rest, digit = divmod(rest, base)
            digits.append(digit)
        assert code.to_spikes(torch.tensor(word)).tolist() == digits[::-1]


@given(st.sampled_from(SHAPES), st.data())
@settings(max_examples=60, deadline=None)
def test_spike_trains_of_any_shape_and_dtype(shape, data):
    bits, T = shape
    offset = data.draw(st.integers(0, 2 ** (bits * T) - 1))
    code = PackedCode(bits, T, offset)
    size = data.draw(st.sampled_from([(3,), (2, 3), (2, 1, 2, 2)]))
    values = torch.randint(code.minimum, code.maximum + 1, size)
    for dtype in (torch.float32, torch.float64, torch.int64, torch.int32):
        spikes = code.to_spikes(values.to(dtype))
        assert spikes.dtype == torch.int64
        assert torch.equal(code.from_spikes(spikes).long(), values)
    # every train of b-bit spikes is some word's train
    train = torch.randint(0, 2**bits, (T, *size))
    assert torch.equal(code.to_spikes(code.from_spikes(train)), train)


def serial_spikepack(potential: np.ndarray, step: float, bits: int, T: int) -> np.ndarray:
    """Greedy firing in time: the membrane starts at half a step, thresholds fall by 2^b each step."""
    membrane = potential + step / 2
    spikes = []
    for t in range(1, T + 1):
        threshold = step * 2.0 ** (bits * (T - t))
        fired = np.clip(np.floor(membrane / threshold), 0, 2**bits - 1)
        membrane = membrane - fired * threshold
        spikes.append(fired.astype(np.int64))
    return np.stack(spikes)


@pytest.mark.parametrize(("bits", "T"), SHAPES)
@pytest.mark.parametrize("step", [1.0, 0.25, 0.037])
def test_greedy_firing_in_time_gives_the_codes_digits(bits, T, step):
    rng = np.random.default_rng(bits * 10 + T)
    code = PackedCode(bits, T)
    potential = rng.uniform(-0.3 * code.levels, 1.3 * code.levels, 4000) * step
    fraction = potential / step - np.floor(potential / step)
    potential = potential[np.abs(fraction - 0.5) > 1e-6]  # exact ties round by parity instead
    words = np.clip(np.rint(potential / step), 0, code.maximum)
    digits = code.to_spikes(torch.from_numpy(words)).numpy()
    np.testing.assert_array_equal(serial_spikepack(potential, step, bits, T), digits)


@pytest.mark.parametrize(("bits", "T"), [(0, 1), (1, 0), (9, 1), (1, 9), (3, 3), (8, 2), (2, 5), (-1, 2)])
def test_sizes_out_of_range(bits, T):
    with pytest.raises(ConfigurationError) as error:
        PackedCode(bits, T)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [1.0, True, "2", None])
def test_sizes_of_the_wrong_type(wrong):
    with pytest.raises(ConfigurationError, match="bits"):
        make_code("packed", wrong, 1)
    with pytest.raises(ConfigurationError, match="T must"):
        make_code("packed", 1, wrong)


def test_errors_name_the_place():
    with pytest.raises(ConfigurationError, match=r"^layer3: bits x T = 4 x 3 = 12 exceeds 8"):
        make_code("packed", 4, 3, "layer3")


@pytest.mark.parametrize("offset", [-1, 16, 255])
def test_offset_out_of_range(offset):
    with pytest.raises(ConfigurationError, match=r"0\.\.15"):
        PackedCode(2, 2, offset)


@pytest.mark.parametrize("offset", [1.5, True])
def test_offset_of_the_wrong_type(offset):
    with pytest.raises(ConfigurationError):
        PackedCode(2, 2, offset)


def test_range_is_a_shifted_byte():
    code = PackedCode(1, 8, 100)
    assert (code.minimum, code.maximum, code.levels, code.word_bits) == (-100, 155, 256, 8)
