"""Builds timm models."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, get_deprecated_models, get_pretrained_cfg, list_models
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.models.checkpoint import apply_state_dict, compare_state_dict, load_state_dict
from snnconvert.models.hub import cached_weights, check_reachable, download_error, first_line

_SOURCE_PREFIXES = ("hf-hub:", "hf_hub:", "timm/")


def resolve_name(name: str, *, also: tuple[str, ...] = ()) -> str:
    """Finds the timm model a user means.

    Args:
        name: `resnet50`, `resnet50.a1_in1k`, or either with `timm/` before it.
        also: Names that aren't timm's, to suggest as well.

    Returns:
        The name as timm knows it.

    Raises:
        InputError: No such model, or no such pretrained tag; names what comes near.
    """
    plain = name
    for prefix in _SOURCE_PREFIXES:
        plain = plain.removeprefix(prefix)
    plain = get_deprecated_models().get(plain) or plain
    architecture, _, tag = plain.partition(".")
    if architecture not in list_models():
        near = difflib.get_close_matches(architecture, [*also, *list_models()], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists the names"
        raise InputError(f"there is no model '{name}': {hint}")
    if tag and plain not in list_models(f"{architecture}.*", include_tags=True):
        tags = [known.partition(".")[2] for known in list_models(f"{architecture}.*", include_tags=True)]
        known_tags = ", ".join(filter(None, tags)) or "none"
        raise InputError(f"{architecture} has no pretrained weights '{tag}': its tags are {known_tags}")
    return plain


def build_pretrained(name: str, *, num_classes: int | None, image_size: int | None, seed: int) -> tuple[str, nn.Module]:
    """Builds a model with its pretrained weights, downloaded or from the cache.

    Args:
        name: As `resolve_name` gives it; without a tag the default weights are taken.
        num_classes: Classes of the classifier; another number than the weights' makes it random.
        image_size: Input size for models that are built for one.
        seed: Of whatever the weights leave random.

    Returns:
        The name with its tag, and the model.

    Raises:
        InputError: The model has no pretrained weights, or they can't be had.
    """
    cfg = get_pretrained_cfg(name)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise InputError(f"timm has no pretrained weights for {name}: pass --checkpoint FILE or --random-weights")
    full_name = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else name
    overlay: dict[str, Any] | None = None
    cached = cached_weights(cfg)
    if cached is None:
        check_reachable(cfg, full_name)
    elif cached.suffix == ".safetensors":
        overlay = {"file": str(cached), "custom_load": False}
    try:
        return full_name, _create(name, cfg, True, overlay, num_classes, image_size, seed)
    except Exception as error:  # hub, network, file and model errors have no base class in common
        # Without weights the model shows which of the two is to blame.
        build_untrained(name, num_classes=num_classes, image_size=image_size, seed=seed)
        if cached is not None:
            reason = f"{full_name} can't be used ({first_line(error)}): delete the file and try again"
            raise InputError(f"the cached weights {cached} of {reason}") from error
        raise download_error(cfg, full_name, first_line(error)) from error


def build_untrained(name: str, *, num_classes: int | None, image_size: int | None, seed: int) -> nn.Module:
    """Builds a model with random weights; the global random state is left alone.

    Args:
        name: As `resolve_name` gives it.
        num_classes: Classes of the classifier; None for the default.
        image_size: Input size for models that are built for one.
        seed: Same seed, same weights.

    Returns:
        The model.

    Raises:
        InputError: The model can't be built with these settings.
    """
    try:
        return _create(name, get_pretrained_cfg(name), False, None, num_classes, image_size, seed)
    except Exception as error:  # model constructors raise whatever they run into
        settings = f"num_classes={num_classes}, image_size={image_size}"
        raise InputError(f"timm can't build {name} with {settings} ({first_line(error)}): change these") from error


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Loads a checkpoint into a timm model, translating other projects' key names where timm knows how.

    Args:
        module: Changed in place.
        path: The checkpoint file.

    Raises:
        InputError: The file can't be read or doesn't fit; the model is unchanged then.
    """
    state = load_state_dict(path)
    if compare_state_dict(module, state):
        state = _translated(module, state)
    apply_state_dict(module, state, source=str(path))


def _translated(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    translate = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        translated: Mapping[str, Tensor] = translate(dict(state), module)
        fits = not compare_state_dict(module, translated)
    except Exception:  # a translation of a foreign checkpoint fails in its own ways; the original keys tell more
        return state
    return dict(translated) if fits else state


def _create(
    name: str,
    cfg: PretrainedCfg | None,
    pretrained: bool,
    overlay: dict[str, Any] | None,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
) -> nn.Module:
    arguments: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if image_size is not None and cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = image_size
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **arguments)
