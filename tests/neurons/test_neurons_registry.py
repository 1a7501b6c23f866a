from dataclasses import dataclass
from typing import ClassVar

import pytest

from snnconvert.errors import ConfigurationError
from snnconvert.neurons import registry
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.registry import make_code, neuron_names, readable_neuron_names, register, spelled

TEXTS = [
    "packed",
    "if",
    "if:reset=hard",
    "if:reset=hard,v0=0.0",
    "lif",
    "lif:leak=0.5",
    "multithreshold",
    "multithreshold:rule=ecmt",
    "ternary",
    "differential",
    "spikepack:tau=1.5",
    "log",
    "log:base=sqrt2",
]


def test_every_code_of_the_package_is_known():
    adding_up = {"packed", "spikepack", "if", "lif", "multithreshold", "ternary", "differential"}
    assert set(readable_neuron_names()) == adding_up
    assert set(neuron_names()) == adding_up | {"log"}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_spelled_is_read_back(text):
    code = make_code(text, 1, 4)
    assert spelled(code) == text
    assert make_code(spelled(code), 1, 4) == code


@pytest.mark.parametrize(
    ("text", "bits", "T", "words"),
    [
        ("pack", 1, 1, ["no neuron is called 'pack'", "did you mean packed"]),
        ("", 1, 1, ["no neuron is called ''", "multithreshold"]),
        (7, 1, 1, ["must be a name"]),
        ("if:colour=1", 1, 1, ["'if' takes reset, v0", "colour=1"]),
        ("if:reset", 1, 1, ["takes reset, v0"]),
        ("packed:tau=2", 1, 1, ["takes no settings"]),
        ("if:reset=medium", 1, 1, ["soft or hard", "medium"]),
        ("if:v0=2", 1, 1, ["0..1"]),
        ("if:v0=half", 1, 1, ["0..1", "half"]),
        ("lif:leak=0", 1, 1, ["above 0"]),
        ("spikepack:tau=2.5", 1, 1, ["at most 2"]),
        ("spikepack", 2, 1, ["binary", "set bits to 1"]),
        ("multithreshold", 8, 1, ["at most 7"]),
        ("if", 8, 1024, ["beyond 65535"]),
        ("if", 0, 1, ["bits", "1 to 8"]),
        ("if", 1, 2000, ["T", "1 to 1024"]),
    ],
)
def test_errors_say_what_and_where(text, bits, T, words):
    with pytest.raises(ConfigurationError) as refused:
        make_code(text, bits, T, "layer7")
    message = str(refused.value)
    assert message.startswith("layer7: ")
    assert "\n" not in message
    assert all(word in message for word in words)


def test_one_class_adds_a_code(monkeypatch):
    monkeypatch.setattr(registry, "_CODES", dict(registry._CODES))

    @register
    @dataclass(frozen=True)
    class Doubled(IntegrateAndFireCode):
        name: ClassVar[str] = "doubled"
        strength: float = 2.0

    assert "doubled" in neuron_names()
    assert make_code("doubled:strength=3", 1, 4).strength == 3
    with pytest.raises(ValueError, match="two spike codes"):

        @register
        @dataclass(frozen=True)
        class Other(IntegrateAndFireCode):
            name: ClassVar[str] = "doubled"
