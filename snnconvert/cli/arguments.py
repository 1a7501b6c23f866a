"""The command line's options, and the settings they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from snnconvert.config import (
    ATTENTION_CODES,
    FUNCTION_GRIDS,
    GRANULARITIES,
    RESIDUALS,
    ROUNDING_METHODS,
    THRESHOLD_METHODS,
    WEIGHT_GRANULARITIES,
    ConversionConfig,
    LayerOverride,
)
from snnconvert.effort import EFFORTS
from snnconvert.energy.profile import DEFAULT_PROFILE, shipped_profiles
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.registry import readable_neuron_names
from snnconvert.tasks.evaluation import CLASSIFICATION, DETECTION, SEGMENTATION, TASKS
from snnconvert.version import __version__

_DEFAULTS = ConversionConfig()
CALIBRATIONS = ("data", "none")
_OF_EFFORT = ("threshold_granularity", "channel_shift", "weight_rounding", "reconstruction_steps")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error of this command."""

    def error(self, message: str) -> NoReturn:
        """Writes the message to stderr and exits with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert MODEL [options]``."""
    parser = OneLineParser(
        prog="snnconvert",
        description="Convert a pretrained network into a spiking one and report what it costs and keeps.",
        epilog="snnconvert eval FOLDER measures a converted network in an engine, snnconvert simulate FOLDER runs it "
        "in time, snnconvert export FOLDER writes it for other tools, snnconvert search MODEL finds the best widths at "
        "each of several budgets, snnconvert report FOLDER writes its report as a page, snnconvert compare A B puts "
        "two reports side by side; each has its own --help. The last line on stdout is one JSON object. Exit code 2 "
        "means bad input: nothing was written. Under torchrun, the processes share the calibration.",
    )
    add_model(parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_conversion(parser.add_argument_group("conversion"))
    _add_objectives(parser.add_argument_group("allocation of widths, layer by layer (one of these)"))
    add_weights(parser.add_argument_group("weights"))
    images = parser.add_argument_group("images")
    add_data(images)
    _add_task(images)
    _add_run(parser.add_argument_group("run and output"))
    return parser


def config_from(options: argparse.Namespace) -> ConversionConfig:
    """The validated settings of parsed options.

    Raises:
        ConfigurationError: on a value out of its range or a malformed override.
    """
    overrides: dict[str, LayerOverride] = {}
    for pattern, override in [
        *map(parse_override, options.override),
        *((pattern, LayerOverride(analog=True)) for pattern in options.keep_analog),
    ]:
        overrides[pattern] = overrides.get(pattern, LayerOverride()).merged_with(override)
    return ConversionConfig(
        bits=options.bits,
        T=options.T,
        neuron=options.neuron,
        weight_bits=options.weight_bits,
        first_last_weight_bits=options.first_last_weight_bits,
        input_bits=options.input_bits,
        shortcut_bits=options.shortcut_bits,
        last_bits=options.last_bits,
        residuals=options.residuals,
        attention_code=options.attention_code,
        function_grid=options.function_grid,
        threshold=options.threshold,
        percentile=options.percentile,
        weight_granularity=options.weight_granularity,
        weight_group=options.weight_group,
        **_effort_of(options),
        bias_correction=options.bias_correction,
        potential_correction=options.potential_correction,
        overrides=overrides,
        budget=getattr(options, "budget", None),
        max_drop=getattr(options, "max_drop", None),
        target_energy=getattr(options, "target_energy", None),
        seed=options.seed,
    )


def _effort_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the effort stands for, with single options on top."""
    told = {name: value for name in _OF_EFFORT if (value := getattr(options, name)) is not None}
    if told.get("threshold_granularity") == "tensor":
        told.setdefault("channel_shift", False)
    return {**EFFORTS.get(options.effort, {}), **told}


def parse_override(text: str) -> tuple[str, LayerOverride]:
    """Reads "PATTERN:bits=4,T=1,weight_bits=8,neuron=NAME".

    A neuron with settings of its own comes last, as in "layer1:T=8,neuron=lif:leak=0.9,reset=hard".

    Raises:
        ConfigurationError: if the text isn't of that form.
    """
    head, _, neuron = text.partition("neuron=")
    head = head.rstrip(",")
    pattern, separator, settings = head.rpartition(":")
    try:
        pairs = [part.partition("=") for part in settings.split(",")] if settings or not neuron else []
        values = {key.strip(): int(value) for key, _, value in pairs}
        repeated = len(values) < len(pairs)
        if not separator or not pattern or repeated or not set(values) <= {"bits", "T", "weight_bits"}:
            raise ValueError
    except ValueError:
        raise ConfigurationError(
            f"--override {text!r} is not of the form PATTERN:bits=B,T=T,weight_bits=W,neuron=NAME (any of the four)"
        ) from None
    return pattern, LayerOverride(
        bits=values.get("bits"), T=values.get("T"), weight_bits=values.get("weight_bits"), neuron=neuron or None
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The network to convert."""
    parser.add_argument(
        "model",
        help='a timm model name, the path of an .onnx file, "digits" for the small network that comes with the '
        "package, or small/NAME for one of the networks in snnconvert.models.small, such as small/resnet20",
    )


def add_conversion(group: argparse._ArgumentGroup) -> None:
    """How values and weights are quantized."""
    group.add_argument(
        "--bits",
        type=int,
        default=_DEFAULTS.bits,
        metavar="B",
        help="bits of a spike, 1..8 (default %(default)s); input spikes have their own, see --input-bits",
    )
    group.add_argument(
        "--T",
        type=int,
        default=_DEFAULTS.T,
        metavar="T",
        help="time steps; packed neurons take B x T <= 8 (default %(default)s)",
    )
    group.add_argument(
        "--neuron",
        default=_DEFAULTS.neuron,
        metavar="NAME[:SETTING=VALUE,...]",
        help=f"kind of neurons: {', '.join(readable_neuron_names())} (default %(default)s)",
    )
    group.add_argument(
        "--weight-bits",
        type=int,
        default=_DEFAULTS.weight_bits,
        metavar="W",
        help="weight bits, 1..8 (default %(default)s)",
    )
    group.add_argument(
        "--first-last-weight-bits", type=int, default=_DEFAULTS.first_last_weight_bits, metavar="W",
        help="weight bits of the first and last layers (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--input-bits", type=int, default=_DEFAULTS.input_bits, metavar="B",
        help="bits of an input value, fired as one spike (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--shortcut-bits", type=int, default=_DEFAULTS.shortcut_bits, metavar="B",
        help="bits of what packed neurons send into sums and average pools, where no weights multiply it "
        "(default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--last-bits", type=int, default=_DEFAULTS.last_bits, metavar="B",
        help="bits of the packed windows the last layers read (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--residuals", choices=RESIDUALS, default=_DEFAULTS.residuals,
        help="what branches bring to residual sums: exact integer currents, or spikes of --shortcut-bits, with which "
        "onnxruntime is several times faster and OpenVINO somewhat (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--attention-code", choices=ATTENTION_CODES, default=_DEFAULTS.attention_code,
        help="what packed words of a softmax's outputs stand for where only products of two activations read them: "
        "integers, powers of 2 or powers of the square root of 2 (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--function-grid", choices=FUNCTION_GRIDS, default=_DEFAULTS.function_grid,
        help="the potentials that neurons on SiLU, GELU and the like tell apart: at least five for each step, or 256, "
        "with which networks of SiLU and Hardswish take about half the time in onnxruntime (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--threshold", choices=THRESHOLD_METHODS, default=_DEFAULTS.threshold,
        help="how thresholds are chosen: minimal mean squared error (mse; of Gaussian values: gaussian; weighted by "
        "gradients: fisher), maximum, percentile, local balancing or minimal divergence (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--percentile",
        type=float,
        default=_DEFAULTS.percentile,
        metavar="P",
        help="for --threshold percentile (default %(default)s)",
    )
    group.add_argument(
        "--threshold-granularity", choices=GRANULARITIES,
        help="one threshold for all channels of a tensor, one a channel where the layers behind allow it, or one a "
        f"channel as far as their weights can bear it (default {_DEFAULTS.threshold_granularity})",
    )  # fmt: skip
    group.add_argument(
        "--channel-shift", action=argparse.BooleanOptionalAction,
        help="a zero point for each channel where neurons have no activation of their own and the layers behind can "
        "take it into their biases; needs thresholds per channel (default: off)",
    )  # fmt: skip
    group.add_argument(
        "--weight-granularity", choices=WEIGHT_GRANULARITIES, default=_DEFAULTS.weight_granularity,
        help="the same weight bits for all output channels of a layer, or bits of their own with that mean for each "
        "channel or group of channels (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weight-group", type=int, default=_DEFAULTS.weight_group, metavar="N",
        help="consecutive output channels that share bits with --weight-granularity group (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weight-rounding", choices=ROUNDING_METHODS,
        help="nearest, or gptq, which keeps each layer's output on calibration images: slower, better below 8 bits "
        f"(default {_DEFAULTS.weight_rounding})",
    )  # fmt: skip
    group.add_argument(
        "--reconstruction-steps", type=int, metavar="N",
        help="steps in which each block learns to give what the ANN gives on calibration images, without labels "
        f"(default {_DEFAULTS.reconstruction_steps})",
    )  # fmt: skip
    group.add_argument(
        "--effort", choices=list(EFFORTS),
        help="for few bits: fast smooths thresholds, shifts channels and rounds weights by gptq; balanced and best "
        "train weights, too, 300 and 2000 steps a block",
    )  # fmt: skip
    group.add_argument(
        "--bias-correction", action=argparse.BooleanOptionalAction, default=True,
        help="correct each channel's mean output on calibration images (default: on)",
    )  # fmt: skip
    group.add_argument(
        "--potential-correction", action=argparse.BooleanOptionalAction, default=False,
        help="correct each neuron's mean potential on calibration images by an initial one (default: off)",
    )  # fmt: skip
    group.add_argument(
        "--override", action="append", default=[], metavar="PATTERN:KEY=N,...",
        help="bits, T, weight_bits or neuron of the layers a name or regular expression matches; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--keep-analog",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave the matching layers as they are in the ANN",
    )


def _add_objectives(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--budget", type=float, metavar="BB",
        help="least error at a mean bit budget b_w x b_s x T of at most BB, weighted by multiply-accumulates",
    )  # fmt: skip
    group.add_argument(
        "--max-drop", type=float, metavar="P",
        help="smallest bit budget that loses at most P points: of accuracy on the calibration images if they have "
        "labels, else of decisions that are the ANN's",
    )  # fmt: skip
    group.add_argument(
        "--target-energy", type=float, metavar="UJ",
        help="least error at no more than UJ microjoules an image in the synapses",
    )  # fmt: skip


def add_weights(group: argparse._ArgumentGroup) -> None:
    """Where the network's weights come from."""
    group.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights from a .safetensors, .pth, .pt or .th file"
    )
    group.add_argument(
        "--random-weights", action="store_true", help="random weights, for trying out; the report says so"
    )
    group.add_argument("--num-classes", type=int, metavar="N", help="classes of the network, if not its default")
    group.add_argument("--image-size", type=int, metavar="PX", help="input size, if not the network's default")


def add_data(group: argparse._ArgumentGroup) -> None:
    """The images."""
    group.add_argument(
        "--data", type=Path, metavar="DIR|NPZ",
        help="DIR/val/<class>/... or DIR/<class>/..., or an .npz of images and labels; without it, crops of "
        "photographs (for digits: its own images)",
    )  # fmt: skip
    group.add_argument(
        "--calib", choices=CALIBRATIONS, default=CALIBRATIONS[0],
        help="data: calibrate on images; none: without any, on synthesized ones (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--calib-images",
        type=int,
        default=128,
        metavar="N",
        help="images to calibrate on (default %(default)s)",
    )
    group.add_argument(
        "--eval-images",
        type=int,
        metavar="N",
        help="images to evaluate on (default: all; of photographs 128)",
    )
    group.add_argument(
        "-b", "--batch-size", type=int, default=32, metavar="N", help="images a batch (default %(default)s)"
    )
    group.add_argument(
        "-j",
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that load images (default %(default)s)",
    )


def _add_task(group: argparse._ArgumentGroup) -> None:
    """What the network does with them."""
    group.add_argument(
        "--task", choices=TASKS, default=CLASSIFICATION,
        help="what is measured: top-1 accuracy, mIoU or mAP. For segmentation MODEL is one of torchvision's or an "
        ".onnx file, --data DIR/images and DIR/masks or Pascal VOC's folders; for detection MODEL is one of "
        "torchvision's, --data a folder with COCO's annotations or Pascal VOC's (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO's .json file, if it isn't the one in --data"
    )
    group.add_argument("--void", type=int, metavar="N", help="value of mask pixels that don't count (default 255)")


def check_task(options: argparse.Namespace) -> None:
    """Refuses options of another task than the one that is asked for.

    Raises:
        ConfigurationError: naming the option.
    """
    owners = {"annotations": DETECTION, "void": SEGMENTATION}
    for name, task in owners.items():
        if getattr(options, name) is not None and options.task != task:
            raise ConfigurationError(f"--{name} is for --task {task}, not {options.task}: leave it out")
    if options.annotations is not None and options.data is None:
        raise ConfigurationError("--annotations names boxes of images: give their folder with --data DIR")


def add_output(group: argparse._ArgumentGroup) -> None:
    """Where the network goes, and the hardware of its energies."""
    group.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the converted network and its report (default: snn-MODEL)",
    )
    group.add_argument("--force", action="store_true", help="replace the output folder if it isn't empty")
    group.add_argument(
        "--hardware", default=DEFAULT_PROFILE, metavar="NAME|TOML",
        help=f"hardware of the energies: {', '.join(shipped_profiles())}, or a .toml file (default %(default)s)",
    )  # fmt: skip


def _add_run(group: argparse._ArgumentGroup) -> None:
    add_output(group)
    group.add_argument(
        "--dry-run", action="store_true", help="print the plan and stop: no calibration, nothing written"
    )
    add_machine(group)
    group.add_argument("-q", "--quiet", action="store_true", help="no tables and no progress bar: only the last line")


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Where it runs, and the seed."""
    group.add_argument("--device", default="cpu", help="torch device to run on (default %(default)s)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch")
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of random weights and of the choice of images (default %(default)s)",
    )
