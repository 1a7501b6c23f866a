"""What a small network may be told: its form, its bits, its size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import check_range
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS
from snnconvert.training.direct.settings import NeuronSettings

FORMS = ("ann", "qnn", "snn")
_MOST = 1 << 16


@dataclass(frozen=True)
class SmallNetConfig:
    """One form of a small network; the same topology and names of weights whatever the form.

    Attributes:
        form: "ann": real weights, ReLU. "qnn": weights of b_w bits, activations of b_s bits (the packed neuron at
            T = 1). "snn": weights of b_w bits, spiking neurons.
        weight_bits: b_w, 1..8; an ANN ignores it.
        neuron: the neurons with b_s and T; an ANN ignores them, a QNN takes their bits and threshold and needs T = 1.
        first_last_weight_bits: weight bits of the layers next to the input and to the output.
        in_channels: channels of the images, or polarities of events.
        classes: outputs.
        width: channels of the first stage (of the tokens in a transformer); None: the paper's.

    Raises:
        ConfigurationError: naming the field that is out of range.
    """

    form: str = "snn"
    weight_bits: int = 8
    neuron: NeuronSettings = dataclasses.field(default_factory=NeuronSettings)
    first_last_weight_bits: int = 8
    in_channels: int = 3
    classes: int = 10
    width: int | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigurationError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")
        for name in ("weight_bits", "first_last_weight_bits"):
            check_range(getattr(self, name), FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS, name)
        if not isinstance(self.neuron, NeuronSettings):
            raise ConfigurationError(f"neuron must be a NeuronSettings, got {self.neuron!r}")
        if self.form == "qnn" and self.neuron.T != 1:
            raise ConfigurationError(
                f"a qnn has no time steps, got T = {self.neuron.T}: give all bits to neuron.bits and set T to 1"
            )
        for name in ("in_channels", "classes"):
            check_range(getattr(self, name), 1, _MOST, name)
        if self.width is not None:
            check_range(self.width, 1, _MOST, "width")

    @property
    def steps(self) -> int:
        """How many rows each image has inside the network: T where neurons integrate over time, else 1."""
        return self.neuron.T if self.form == "snn" and self.neuron.kind != "packed" else 1

    @property
    def setting(self) -> str:
        """``b_w/b_s/T``, or "ann"."""
        return "ann" if self.form == "ann" else f"{self.weight_bits}/{self.neuron.bits}/{self.neuron.T}"

    @property
    def bit_budget(self) -> int:
        """BB = T·b_w·b_s of inner layers; 32·32 of an ANN."""
        return 32 * 32 if self.form == "ann" else self.neuron.T * self.weight_bits * self.neuron.bits
