import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snnconvert.cli import (
    compare_command,
    eval_command,
    export_command,
    finetune_command,
    report_command,
    search_command,
    simulate_command,
)
from snnconvert.cli.arguments import build_parser

REPOSITORY = Path(__file__).resolve().parents[2]
TASK_MODELS = ("lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def readme_commands() -> list[str]:
    lines = "\n".join(blocks("sh")).splitlines()
    parts = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("snnconvert ")]


def test_python_example_runs_as_written(tmp_path):
    (example,) = blocks("python")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Fidelity(top1_agreement=" in done.stdout
    files = sorted(path.name for path in (tmp_path / "small-snn").iterdir())
    assert files == ["config.json", "graph.json", "model.safetensors", "report.json"]


def test_readme_shows_commands():
    assert len(readme_commands()) >= 4


@pytest.mark.parametrize("command", readme_commands())
def test_command_of_the_readme_has_valid_options(command):
    words = command.split()[1:]
    if words[0] == "simulate":
        assert simulate_command.build_parser().parse_args(words[1:]).network
    elif words[0] == "export":
        assert export_command.build_parser().parse_args(words[1:]).network
    elif words[0] == "eval":
        assert eval_command.build_parser().parse_args(words[1:]).network
    elif words[0] == "search":
        assert search_command.build_parser().parse_args(words[1:]).budgets
    elif words[0] == "report":
        assert report_command.build_parser().parse_args(words[1:]).network
    elif words[0] == "finetune":
        assert finetune_command.build_parser().parse_args(words[1:]).augmentation == "flip-crop"
    elif words[0] == "compare":
        assert compare_command.build_parser().parse_args(words[1:]).second
    else:
        models = ("digits", "resnet50", "mobilenetv2_100", "model.onnx", *TASK_MODELS)
        assert build_parser().parse_args(words).model in models


@pytest.mark.parametrize("folder", re.findall(r"^  (\w+)/ ", README, re.MULTILINE))
def test_layout_names_folders_that_exist(folder):
    assert (REPOSITORY / "snnconvert" / folder / "__init__.py").is_file()


@pytest.mark.parametrize("url", re.findall(r"\]\((?!http)([^)#]+)", README) or [""])
def test_links_inside_the_repository_lead_somewhere(url):
    assert (REPOSITORY / url).exists()
