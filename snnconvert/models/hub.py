"""Finds out quickly whether a timm model's pretrained weights can be had: from the cache or the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.utils
import torch
from huggingface_hub import hf_hub_url, try_to_load_from_cache
from timm.models import PretrainedCfg

from snnconvert.errors import InputError

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_REQUEST_SECONDS = 5.0
_TOTAL_SECONDS = 8.0
_SERVER_ERROR = 500


def cached_weights(cfg: PretrainedCfg) -> Path | None:
    """Looks for the weights in the local caches, without the network.

    Args:
        cfg: A model's pretrained configuration.

    Returns:
        The cached file, or None.
    """
    if cfg.hf_hub_id:
        repo, revision = _split_revision(cfg.hf_hub_id)
        for name in _file_names(cfg):
            found = try_to_load_from_cache(repo, name, revision=revision)
            if isinstance(found, str):
                return Path(found)
    elif cfg.url:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(_weights_url(cfg)).path).name
        return file if file.is_file() else None
    return None


def check_reachable(cfg: PretrainedCfg, name: str) -> None:
    """Asks the weights' server for a sign of life, once, before a download client starts its many retries.

    Args:
        cfg: The model's pretrained configuration.
        name: The model's name, for the message.

    Raises:
        InputError: No usable answer within 8 seconds.
    """
    reason = unreachable_reason(_weights_url(cfg))
    if reason is not None:
        raise download_error(cfg, name, reason)


def download_error(cfg: PretrainedCfg, name: str, reason: str) -> InputError:
    """Words the failure to get pretrained weights, with the ways out.

    Args:
        cfg: The model's pretrained configuration.
        name: The model's name.
        reason: What went wrong.

    Returns:
        The error, for raising.
    """
    repo = f" with {_split_revision(cfg.hf_hub_id)[0]}" if cfg.hf_hub_id else ""
    return InputError(
        f"the pretrained weights of {name} could not be downloaded ({reason}): pass --checkpoint FILE, "
        f"pass --random-weights, or fill the hub cache{repo} on a connected machine and copy it here"
    )


def unreachable_reason(url: str) -> str | None:
    """Sends one short HEAD request through the hub client's session: its proxies, certificates, offline mode.

    Args:
        url: Of the weights.

    Returns:
        None if a server answers, else why it doesn't.
    """
    return _within(_TOTAL_SECONDS, lambda: _head(url))


def first_line(error: Exception) -> str:
    """Shortens an error to the first line of its message.

    Args:
        error: Any error.

    Returns:
        At most 160 characters; the error's type if it has no message.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:")[:160] if lines else type(error).__name__


def _head(url: str) -> str | None:
    # The session is of requests or httpx, depending on the hub client's version; both know head and timeout.
    client: Any = huggingface_hub.utils
    try:
        status = int(client.get_session().head(url, timeout=_REQUEST_SECONDS).status_code)
    except Exception as error:  # the two clients share no base class for their errors
        return first_line(error)
    return f"the server answers with error {status}" if status >= _SERVER_ERROR else None


def _within(seconds: float, work: Callable[[], str | None]) -> str | None:
    # Looking up a host name has no timeout, so the request waits in a thread that may be left behind.
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:g} seconds"


def _weights_url(cfg: PretrainedCfg) -> str:
    if not cfg.hf_hub_id:
        return cfg.url if isinstance(cfg.url, str) else str((cfg.url or ("",))[0])
    repo, revision = _split_revision(cfg.hf_hub_id)
    return hf_hub_url(repo, _file_names(cfg)[0], revision=revision)


def _file_names(cfg: PretrainedCfg) -> tuple[str, ...]:
    return (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _WEIGHT_FILES


def _split_revision(hub_id: str) -> tuple[str, str | None]:
    repo, _, revision = hub_id.partition("@")
    return repo, revision or None
