"""Reads the weights out of a checkpoint file without running anything it contains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.models.pickles import PickleScan, scan_pickle

_PICKLED = (".pth", ".pt", ".th", ".bin", ".pth.tar")
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_DEEPEST_WRAPPER = 4
_PREFIXES = ("module.", "model.", "_orig_mod.")


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint.

    Wrappers that training scripts put around the weights (`state_dict`, `model`, `model_state_dict`, and
    before these the averaged `state_dict_ema`, `model_ema`) are unwrapped, also nested; a prefix `module.`,
    `model.` or `_orig_mod.` that all keys share is dropped; entries that are no tensors are left out.

    Args:
        path: A .safetensors, .pth, .pt, .th, .bin or .pth.tar file. Pickles may hold tensors and plain
            containers; one that asks for more is refused without being executed.

    Returns:
        Tensors on the CPU by name.

    Raises:
        InputError: The file is missing, of an unknown kind, damaged, not made of weights, or holds NaN or
            infinity.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}: check the path")
    if path.suffix.lower() == ".safetensors":
        content = _read_safetensors(path)
    elif path.name.lower().endswith(_PICKLED):
        content = _read_pickled(path)
    else:
        known = ", ".join((".safetensors", *_PICKLED))
        raise InputError(f"{path} isn't of a known checkpoint type ({known}): rename it or save it as one of these")
    state = _strip_prefixes(_tensors(content, path))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise InputError(f"{path}: the tensor '{name}' holds NaN or infinity: use an earlier checkpoint")
    return state


def _read_safetensors(path: Path) -> object:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path) from error
    return tensors


def _read_pickled(path: Path) -> object:
    scan = scan_pickle(path)
    if scan.torchscript:
        raise InputError(f"{path} is a TorchScript archive, not weights: save model.state_dict() instead")
    if scan.foreign:
        raise _refused(path, scan)
    try:
        # Training scripts store their arguments beside the weights: a Namespace only holds attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in whichever way its bytes happen to
        if scan.code:
            raise _refused(path, scan) from error
        raise _damaged(path) from error
    return content


def _damaged(path: Path) -> InputError:
    return InputError(f"the checkpoint {path} is truncated or damaged: copy or download it again")


def _refused(path: Path, scan: PickleScan) -> InputError:
    advice = "save the weights alone with torch.save(model.state_dict(), FILE)"
    if scan.whole_module:
        return InputError(f"{path} holds a whole pickled module, which was NOT executed: {advice}")
    wanted = f" (it asks for {', '.join(scan.code[:3])})" if scan.code else ""
    return InputError(f"{path} is a pickle that isn't only weights{wanted} and was NOT executed: {advice}")


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    inner = _unwrap(content)
    tensors = {}
    if isinstance(inner, Mapping):
        tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        found = f"a {type(inner).__name__}"
        if isinstance(inner, Mapping) and inner:
            found = f"the entries {', '.join(str(name) for name in list(inner)[:5])}"
        raise InputError(f"{path} holds {found} and no tensors: save the weights with model.state_dict()")
    return tensors


def _unwrap(content: object) -> object:
    # A pickled dictionary can contain itself, so the depth is limited.
    for _ in range(_DEEPEST_WRAPPER):
        if isinstance(content, Mapping):
            wrapped: list[Any] = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
            content = wrapped[0] if wrapped else content
    return content


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES * len(_PREFIXES):
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def apply_state_dict(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads weights into a network, all or nothing.

    BatchNorm's `num_batches_tracked`, which inference doesn't read, may be missing.

    Args:
        module: Changed in place.
        state: Tensors by name, as `load_state_dict` gives them.
        source: Where they come from, for the message.

    Raises:
        InputError: Keys are missing, unexpected or of another shape; the network is unchanged then.
    """
    differences = compare_state_dict(module, state)
    if differences:
        raise InputError(f"{source} doesn't fit {type(module).__name__}: {differences}")
    module.load_state_dict(dict(state), strict=False)


def compare_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Says in which ways weights don't fit a network.

    Args:
        module: The network.
        state: Tensors by name.

    Returns:
        What is missing, unexpected or of another shape, and what to do about it; empty if nothing is.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = {name: (tuple(state[name].shape), tuple(expected[name].shape)) for name in expected if name in state}
    mismatched = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if not missing and not unexpected and not mismatched:
        return ""
    words = [f"{name} {list(theirs)} instead of {list(ours)}" for name, (theirs, ours) in mismatched.items()]
    problems = [
        _count(missing, "missing"),
        _count(unexpected, "unexpected"),
        _count(words, "of another shape"),
    ]
    advice = "check that the checkpoint belongs to this network"
    classes = None if missing or unexpected else _classes_in(mismatched)
    if classes is not None:
        advice = f"only the classifier differs, pass --num-classes {classes}"
    return f"{', '.join(problem for problem in problems if problem)}: {advice}"


def _count(names: list[str], kind: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} key{'s' if len(names) > 1 else ''} {kind} ({', '.join(names[:3])}{more})"


def _classes_in(mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> int | None:
    layers = {name.rpartition(".")[0] for name in mismatched}
    if len(layers) != 1 or any(not theirs or theirs[1:] != ours[1:] for theirs, ours in mismatched.values()):
        return None
    counts = {theirs[0] for theirs, _ in mismatched.values()}
    return counts.pop() if len(counts) == 1 else None
