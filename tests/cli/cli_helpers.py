"""What the command-line tests share: running commands, looking at folders, images of digits."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from snnconvert.data.digits import load_digits_arrays

REPOSITORY = Path(__file__).resolve().parents[2]
ARTIFACT_FILES = ["config.json", "graph.json", "model.safetensors", "report.json"]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


def run_process(arguments: list[str], folder: Path, **variables: str) -> Outcome:
    """Runs Python in a folder, with pipes for its streams."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2", **variables}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder, hidden entries too: bytes of files, kinds of the rest."""
    return {
        str(path.relative_to(folder)): (
            "link" if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
    }


def assert_one_error(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one readable line on stderr that holds the words."""
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("snnconvert: error: ")
    assert len(lines[0]) <= 600
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in lines[0]


def digit_pixels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first digits as uint8 [N, 8, 8, 1], and their labels."""
    images, labels = load_digits_arrays()
    return np.rint(images[:count, :, :, None] * 255).astype(np.uint8), labels[:count]


def write_archive(path: Path, count: int = 60, **changes: Any) -> Path:
    """An .npz of digits; `changes` replaces or adds arrays."""
    images, labels = digit_pixels(count)
    arrays = {"images": images, "labels": labels, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_folder(root: Path, count: int = 60) -> Path:
    """Digits as .png files in one folder for each class."""
    images, labels = digit_pixels(count)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{number:04}.png")
    return root
