"""What a conversion may be told: validated, frozen, and readable back from JSON."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode, check_range
from snnconvert.neurons.registry import make_code
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS

CONFIG_VERSION = 1
THRESHOLD_METHODS = ("mse", "max", "percentile", "gaussian", "balanced", "entropy", "fisher")
CHANNEL_METHODS = ("mse", "max", "percentile", "gaussian")
GRANULARITIES = ("tensor", "channel", "smoothed")
WEIGHT_GRANULARITIES = ("layer", "group", "channel")
ROUNDING_METHODS = ("nearest", "gptq")
ATTENTION_CODES = ("uniform", "log2", "log-sqrt2")
RESIDUALS = ("currents", "spikes")
FUNCTION_GRIDS = ("fine", "bytes")
OBJECTIVES = ("budget", "max_drop", "target_energy")


@dataclass(frozen=True)
class LayerOverride:
    """Settings of the layers one override pattern names; None keeps the general setting.

    Attributes:
        bits: spike bits b_s of the layer's input spikes.
        T: time steps of the layer's input spikes.
        neuron: name and settings of the neurons the layer reads.
        weight_bits: weight bits b_w.
        analog: True keeps the layer as it is in the ANN, False converts it after all.
    """

    bits: int | None = None
    T: int | None = None
    neuron: str | None = None
    weight_bits: int | None = None
    analog: bool | None = None

    def merged_with(self, later: LayerOverride) -> LayerOverride:
        """These settings with those of a later override on top, field by field."""
        given = {key: value for key, value in dataclasses.asdict(later).items() if value is not None}
        return dataclasses.replace(self, **given)


@dataclass(frozen=True)
class ConversionConfig:
    """Settings of one conversion.

    Attributes:
        bits: spike bits b_s, 1..8.
        T: time steps; a packed window holds bits·T ≤ 8.
        neuron: the neurons' name and settings: "packed", "if", "lif:leak=0.9", "multithreshold", …
        weight_bits: weight bits b_w, 1..8, symmetric per output channel; those of 1 bit are ± the channel's scale.
        first_last_weight_bits: weight bits of the layers next to the input and to the output.
        input_bits: bits of the network's input, fired as one spike a value (T = 1).
        shortcut_bits: bits of a packed window where no synapse reads it: on shortcuts into sums and in front of
            average pools, which cost no multiply-accumulates. Neurons of their own fire there if windows are
            narrower elsewhere.
        last_bits: bits of a packed window that the layers next to the output read, unless windows are wider.
        residuals: what the branches of a residual sum bring to it: "currents", exact integers, or "spikes", windows of
            ``shortcut_bits`` that neurons of their own fire behind each branch, and means of what products read are
            means of its spikes; runtimes whose convolutions return nothing wider than 8 bits, such as onnxruntime, are
            several times faster on these. Steps of words that meet in a sum are then a few bits apart, each at most a
            64th larger than calibration found.
        attention_code: what packed words of a softmax's outputs stand for where nothing but products of two
            activations reads them: "uniform": integers, as everywhere; "log2" and "log-sqrt2": powers of 2 or √2 (finer
            ones where words of that many bits would span more than 16 octaves) and 0, which such a product decodes
            when the last digit is in. Thresholds of these are by minimal squared error where ``threshold`` is one
            of "gaussian", "balanced" and "entropy".
        function_grid: the potentials that neurons on functions without a closed form (SiLU, GELU, …) tell apart:
            "fine": at least five for each step of the spikes, as far as 65,536 reach; "bytes": 256 of those that
            calibration sees, as kernels that return bytes do, where a layer has one threshold and no initial potentials
            (others keep the fine grid). Networks of SiLU and Hardswish take about half the time in onnxruntime with
            these; OpenVINO is slower on them.
        threshold: how thresholds are chosen: "mse" (minimal squared error), "max", "percentile", "gaussian" (minimal
            squared error of Gaussian values), "balanced" (local threshold balancing), "entropy" (minimal
            Kullback-Leibler divergence) or "fisher" (squared error weighted by squared gradients of the outputs).
        percentile: share of values below the threshold, in percent, for "percentile".
        threshold_granularity: "tensor": one threshold for all channels; "channel": one each, where every layer that
            reads the spikes sees their channels apart; "smoothed": the same, but no more different than is good for
            the weights that read them.
        channel_shift: let the neurons of sites without an activation of their own (behind a normalization, on a linear
            bottleneck) fire on each channel less a zero point of its own, where what reads them can take that back into
            its bias; needs thresholds per channel.
        weight_granularity: "layer": all output channels of a layer have its weight bits; "channel": each has its own
            of 1..8, chosen for the least error of the layer's output, and the layer's are the largest mean; "group":
            so has each group of ``weight_group`` consecutive channels.
        weight_group: output channels that share weight bits with the weight granularity "group"; a layer's last group
            may be smaller.
        weight_rounding: "nearest", or "gptq": each layer's integers minimize the error of its output on a sample of
            the calibration images, what the layers before lost included.
        reconstruction_steps: optimizer steps in which each block of the network learns to give what the ANN gives on
            a sample of up to 1,024 calibration images: its weights, biases and the potentials at which neurons fire,
            without labels; 0: none.
        bias_correction: correct each channel's mean output on the calibration images.
        potential_correction: correct each neuron's mean potential on the calibration images by an initial one, where
            a network of packed neurons has one fixed input size and isn't trained.
        dynamic_sizes: let the network run at any height and width of its inputs [N, C, H, W].
        parts: names of submodules to convert each for itself, where the network can't be captured as a whole;
            empty: the whole network, or, of the detectors in torchvision, the parts that are neural networks.
        overrides: layer name or regular expression (full match) to LayerOverride or a dict of its fields.
        budget: allocate T, spike bits and weight bits layer by layer, for the least error at a mean bit budget
            T·b_w·b_s (weighted by multiply-accumulates) of at most this; what overrides say of a layer is kept.
        max_drop: allocate them for the smallest bit budget at which at most this many points are lost: of
            accuracy, if the calibration loader gives labels, else of decisions that are the ANN's.
        target_energy: allocate them for the least error at no more microjoules per image than this, by
            :class:`~snnconvert.energy.twin.TwinModel`, bit by bit. One of these three at most.
        seed: seed of whatever is random: images synthesized where there are no data, the projections of the outputs
            for the threshold "fisher", the order of samples in a reconstruction.
    """

    bits: int = 2
    T: int = 4
    neuron: str = "packed"
    weight_bits: int = 8
    first_last_weight_bits: int = 8
    input_bits: int = 8
    shortcut_bits: int = 8
    last_bits: int = 8
    residuals: str = "currents"
    attention_code: str = "uniform"
    function_grid: str = "fine"
    threshold: str = "mse"
    percentile: float = 99.9
    threshold_granularity: str = "tensor"
    channel_shift: bool = False
    weight_granularity: str = "layer"
    weight_group: int = 16
    weight_rounding: str = "nearest"
    reconstruction_steps: int = 0
    bias_correction: bool = True
    potential_correction: bool = False
    dynamic_sizes: bool = False
    parts: tuple[str, ...] = ()
    overrides: Mapping[str, LayerOverride] = field(default_factory=dict)
    budget: float | None = None
    max_drop: float | None = None
    target_energy: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        code = _checked_code(self.neuron, self.bits, self.T)
        self._check_attention_code(code)
        make_code("packed", self.input_bits, 1, "input_bits")
        make_code("packed", self.shortcut_bits, 1, "shortcut_bits")
        make_code("packed", self.last_bits, 1, "last_bits")
        for name in ("weight_bits", "first_last_weight_bits"):
            _check_weight_bits(getattr(self, name), name)
        self._check_choice("residuals", RESIDUALS)
        self._check_choice("function_grid", FUNCTION_GRIDS)
        self._check_choice("threshold", THRESHOLD_METHODS)
        self._check_choice("threshold_granularity", GRANULARITIES)
        if self.threshold_granularity != "tensor" and self.threshold not in CHANNEL_METHODS:
            raise ConfigurationError(
                f"thresholds per channel are chosen by {', '.join(CHANNEL_METHODS)}, not by {self.threshold}: "
                "choose one of these, or threshold_granularity tensor"
            )
        self._check_choice("weight_granularity", WEIGHT_GRANULARITIES)
        check_range(self.weight_group, 1, 1 << 20, "weight_group")
        self._check_choice("weight_rounding", ROUNDING_METHODS)
        if not isinstance(self.percentile, (int, float)) or not 50 < self.percentile <= 100:
            raise ConfigurationError(f"percentile must be above 50 and at most 100, got {self.percentile!r}")
        check_range(self.reconstruction_steps, 0, 1 << 20, "reconstruction_steps")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 63:
            raise ConfigurationError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed!r}")
        for name in ("channel_shift", "bias_correction", "potential_correction", "dynamic_sizes"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.channel_shift and self.threshold_granularity == "tensor":
            raise ConfigurationError(
                "channel_shift needs thresholds per channel: set threshold_granularity to channel or smoothed"
            )
        if self.potential_correction and self.dynamic_sizes:
            raise ConfigurationError(
                "potential_correction gives each neuron of one input size a potential of its own: without dynamic_sizes"
            )
        if self.potential_correction and self.reconstruction_steps:
            raise ConfigurationError(
                "potential_correction and reconstruction_steps exclude each other: blocks that were trained give what "
                "neurons see of a potential, and no longer its mean"
            )
        if isinstance(self.parts, str) or not all(isinstance(part, str) and part for part in self.parts):
            raise ConfigurationError(f"parts must be names of submodules, got {self.parts!r}")
        object.__setattr__(self, "parts", tuple(self.parts))
        self._check_objectives()
        if not isinstance(self.overrides, Mapping) or not all(isinstance(key, str) for key in self.overrides):
            raise ConfigurationError("overrides must map layer names or regular expressions to settings")
        checked = {pattern: self._checked_override(pattern, value) for pattern, value in self.overrides.items()}
        object.__setattr__(self, "overrides", checked)

    @property
    def objective(self) -> tuple[str, float] | None:
        """Name and value of what widths are allocated for; None if they are as told."""
        return next(((name, getattr(self, name)) for name in OBJECTIVES if getattr(self, name) is not None), None)

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def _check_attention_code(self, code: SpikeCode) -> None:
        self._check_choice("attention_code", ATTENTION_CODES)
        if self.attention_code != "uniform" and code.name != "packed":
            raise ConfigurationError(
                f"attention_code {self.attention_code} needs packed neurons, got {self.neuron}: "
                "set neuron to packed, or attention_code to uniform"
            )

    def _check_objectives(self) -> None:
        given = [name for name in OBJECTIVES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"{' and '.join(given)} exclude each other: give one of them")
        for name in given:
            value, least = getattr(self, name), "not be negative" if name == "max_drop" else "be positive"
            known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not known or value < 0 or (value == 0 and name != "max_drop"):
                raise ConfigurationError(f"{name} must {least}, got {value!r}")

    def _checked_override(self, pattern: str, value: LayerOverride | Mapping[str, Any]) -> LayerOverride:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigurationError(f"override {pattern!r} is not a regular expression: {error}") from None
        try:
            override = value if isinstance(value, LayerOverride) else LayerOverride(**value)
        except TypeError:
            known = ", ".join(f.name for f in dataclasses.fields(LayerOverride))
            raise ConfigurationError(f"override {pattern!r} takes {known}; got {value!r}") from None
        where = f"override {pattern!r}"
        _checked_code(
            self.neuron if override.neuron is None else override.neuron,
            1 if override.bits is None else override.bits,
            1 if override.T is None else override.T,
            where,
        )
        if override.weight_bits is not None:
            _check_weight_bits(override.weight_bits, f"{where}: weight_bits")
        if override.analog is not None and not isinstance(override.analog, bool):
            raise ConfigurationError(f"{where}: analog must be true or false, got {override.analog!r}")
        return override

    def override_for(self, layer: str) -> LayerOverride:
        """The override whose pattern matches a layer's name; later patterns win, field by field."""
        merged = LayerOverride()
        for pattern, override in self.overrides.items():
            if matches(pattern, layer):
                merged = merged.merged_with(override)
        return merged

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form with a schema version; :meth:`from_dict` reads it back."""
        values = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("overrides", "parts")
        }
        overrides = {pattern: dataclasses.asdict(value) for pattern, value in self.overrides.items()}
        return {"version": CONFIG_VERSION, **values, "parts": list(self.parts), "overrides": overrides}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConversionConfig:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ConfigurationError: if the version or a key is unknown, or a value out of range.
        """
        values = dict(data)
        version = values.pop("version", None)
        if version != CONFIG_VERSION:
            raise ConfigurationError(f"configuration version {version!r} is not {CONFIG_VERSION}")
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ConfigurationError(f"unknown settings in the configuration: {', '.join(unknown)}")
        return cls(**values)


def matches(pattern: str, layer: str) -> bool:
    """Whether an override pattern is a layer's name or a regular expression that matches all of it."""
    return pattern == layer or re.fullmatch(pattern, layer) is not None


def _checked_code(neuron: str, bits: int, T: int, where: str = "") -> SpikeCode:
    """The code of neurons that any layer may read."""
    code = make_code(neuron, bits, T, where)
    if not code.adds_up:
        place = f"{where}: " if where else ""
        raise ConfigurationError(
            f"{place}spikes of {code.name} neurons don't add up, so that layers with weights can't read them: "
            "choose other neurons, and attention_code for attention maps"
        )
    return code


def _check_weight_bits(value: object, where: str) -> None:
    check_range(value, FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS, where)
