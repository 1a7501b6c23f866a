"""The notebooks as they are stored: run from top to bottom, with pictures, and nothing that isn't for readers.

``python -m pytest --nbmake notebooks`` runs them anew.
"""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
MOST_BYTES = 400_000
PATH = re.compile(r"(?<![\w.])/(?:tmp|home|root|usr|var|opt|work|mnt|Users)/|[A-Z]:\\|ipykernel_\d|site-packages")
WARNING = re.compile(r"\w*Warning\b|\bwarn\(|Traceback")


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts_of(output):
    """All that an output says in words."""
    data = {"text/plain": output["text"]} if "text" in output else output.get("data", {})
    return ["".join(value) for kind, value in data.items() if kind.startswith("text/")]


def faults(notebook):
    """What a stored notebook must not have, one sentence each."""
    cells = code_cells(notebook)
    if [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)):
        yield "wasn't run once from top to bottom"
    for number, cell in enumerate(cells, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"cell {number} failed"
            if output.get("name") == "stderr":
                yield f"cell {number} wrote to stderr"
            for text in texts_of(output):
                if PATH.search(text):
                    yield f"cell {number} shows a path"
                if WARNING.search(text):
                    yield f"cell {number} shows a warning"


@pytest.mark.parametrize("name", NAMES)
def test_it_was_run_and_shows_nothing_but_results(name):
    assert list(faults(read(name))) == []


@pytest.mark.parametrize("name", NAMES)
def test_it_shows_pictures_and_ends_in_numbers(name):
    outputs = [output for cell in code_cells(read(name)) for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    last = "".join(texts_of(outputs[-1]))
    assert re.search(r"\n-+(?:  -+)+\n", last), "the last output is no table"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_runs_in_any_kernel_of_python(name):
    assert (FOLDER / name).stat().st_size < MOST_BYTES
    assert read(name)["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_somewhere(name):
    words = "".join("".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", words)
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_site_and_the_readme_list_them_all():
    root = FOLDER.parent
    index, readme = ((root / name).read_text(encoding="utf-8") for name in ("docs/index.md", "README.md"))
    assert NAMES
    for name in NAMES:
        assert f"../notebooks/{name.removesuffix('.ipynb')}\n" in index
        assert f"(notebooks/{name})" in readme


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ({"output_type": "stream", "name": "stderr", "text": ["0 %"]}, "cell 1 wrote to stderr"),
        ({"output_type": "stream", "name": "stdout", "text": ["in /home/me/x.py"]}, "cell 1 shows a path"),
        ({"output_type": "display_data", "data": {"text/html": ["UserWarning: old"]}}, "cell 1 shows a warning"),
        ({"output_type": "error", "ename": "KeyError"}, "cell 1 failed"),
    ],
)
def test_faults_are_found(output, fault):
    cell = {"cell_type": "code", "execution_count": 1, "outputs": [output]}
    assert list(faults({"cells": [cell]})) == [fault]
    assert list(faults({"cells": [{**cell, "execution_count": 2, "outputs": []}]})) == [
        "wasn't run once from top to bottom"
    ]
