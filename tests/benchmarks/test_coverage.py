import json

import pytest
import timm
import torch
from torch import nn

from benchmarks import coverage
from benchmarks.families import Family, build, families, smooth_images, survey

RESNET = Family("resnet", "test_resnet", 0, 1000, (3, 160, 160))


@pytest.fixture
def cache(tmp_path):
    """A cache whose survey of timm counts four models."""
    counts = {
        "resnet18": [11_689_512, 1000],
        "resnet10t": [5_440_000, 1000],
        "test_resnet": [470_000, 1000],
        "qwen3_vit_88m": [88_000_000, 0],
    }
    (tmp_path / f"timm-{timm.__version__}.json").write_text(json.dumps(counts))
    return tmp_path


def test_family_is_its_smallest_real_classifier(cache):
    (family,) = families(cache)
    assert (family.name, family.model, family.input_size) == ("resnet", "resnet10t", (3, 176, 176))
    assert family.classes == 1000


def test_family_without_classifier_is_named(cache):
    skipped = survey(cache).skipped
    assert "qwen3_vit_88m" in skipped["qwen3_vit"]
    assert skipped["vgg"] == "holds no models"


def test_images_follow_the_seed_and_are_smooth():
    first, again, other = (smooth_images(2, (3, 64, 48), seed) for seed in (1, 1, 2))
    assert first.shape == (2, 3, 64, 48)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    steps = first.diff(dim=3).square().mean()
    assert steps < 0.1 * first.var()


def test_network_follows_the_seed_and_is_settled():
    before = torch.random.get_rng_state()
    network, again = build(RESNET, 3), build(RESNET, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    images = smooth_images(4, RESNET.input_size, 9)
    with torch.no_grad():
        logits = network(images)
        assert torch.equal(logits, again(images))
    assert not any(module.training for module in network.modules())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.momentum == 0.1 and norm.running_var.min() > 0 and norm.weight.all() for norm in norms)
    assert logits.var(0).mean() > 0.01 * logits.square().mean()


def test_scales_of_next_to_nothing_come_alive():
    network = build(Family("convnext", "test_convnext", 0, 1000, (3, 160, 160)), 0)
    gammas = [parameter for name, parameter in network.named_parameters() if name.endswith("gamma")]
    assert gammas
    assert all(gamma.min() >= 0.1 and gamma.max() <= 1 for gamma in gammas)


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_part_that_is_none(text, capsys):
    with pytest.raises(SystemExit):
        coverage.main(["--part", text])
    assert "is not I/N" in capsys.readouterr().err


def test_unknown_family(cache):
    with pytest.raises(SystemExit, match="no family of classifiers: resnot; there are resnet"):
        coverage.main(["--family", "resnot", "--cache", str(cache)])


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_run_from_network_to_page(cache, tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    command = ["--cache", str(cache), "--stepwise", "--markdown", str(page)]
    coverage.main(command)
    totals = last_line(capsys)
    assert (totals["families"], totals["converted"], totals["stepwise_equal"]) == (1, 1, 1)
    assert totals["missed"] == totals["graph_unequal"] == {}
    assert totals["worst_coverage"][0] > 0.9
    assert "| resnet | resnet10t | 3x176x176 |" in page.read_text()

    (result,) = cache.glob("resnet-stepwise-*.json")
    sources = json.loads(result.read_text())["sources"]
    monkeypatch.setattr(coverage, "_run_child", None)  # from here on nothing may be measured
    monkeypatch.setattr(coverage, "sources_hash", lambda: sources)
    coverage.main(["--cache", str(cache), "--plan-only"])
    assert last_line(capsys)["planned"] == 1
    monkeypatch.setattr(coverage, "sources_hash", lambda: "changed")
    coverage.main(["--cache", str(cache), "--keep"])
    assert last_line(capsys)["converted"] == 1


@pytest.mark.slow
def test_time_limit_is_a_result(cache, capsys):
    coverage.main(["--cache", str(cache), "--plan-only", "--limit", "1"])
    totals = last_line(capsys)
    assert totals["planned"] == 0
    assert totals["missed"] == {"resnet": "start: took more than 1 s"}


def test_failure_inside_a_stage_keeps_what_is_known(cache, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no currents\nat all")

    monkeypatch.setattr(coverage, "build", lambda family: nn.Sequential(nn.Flatten(), nn.Linear(92928, 10)))
    monkeypatch.setattr(coverage, "calibrate", fail)
    coverage.main(["--measure", "resnet", "--into", str(tmp_path / "row"), "--cache", str(cache)])
    row = json.loads((tmp_path / "row").read_text())
    assert (row["stage"], row["failed_in"], row["coverage"]) == ("failed", "convert", 1.0)
    assert row["error"].startswith("ZeroDivisionError: no currents (")
    totals = coverage.summarize([row], "convert")
    assert (totals["planned"], totals["converted"]) == (1, 0)
    assert totals["missed"]["resnet"].startswith("convert: ZeroDivisionError")


def test_totals_and_reasons_over_families():
    def row(name, coverage_, sqnr, items):
        analog = [{"op": op, "reason": why, "count": count, "macs": macs} for op, why, count, macs in items]
        facts = {"coverage": coverage_, "logit_sqnr_db": sqnr, "macs": 100, "analog": analog, "prepare_seconds": 1.0}
        return {"name": name, "stage": "done", "stepwise_equal": name != "b", "graph_difference": float("nan"), **facts}

    rows = [row("a", 0.5, 9.0, [("mul", "p", 2, 50)]), row("b", 0.9, None, [("mul", "p", 1, 10), ("gelu", "q", 9, 0)])]
    totals = coverage.summarize(rows, "stepwise")
    assert totals["worst_coverage"] == (0.5, "a")
    assert totals["median_coverage"] == pytest.approx(0.7)
    assert totals["worst_sqnr_db"] == (9.0, "a")
    assert totals["stepwise_unequal"] == ["b"]
    assert set(totals["graph_unequal"]) == {"a", "b"}
    first, second = coverage.analog_over_families(rows)
    assert (first["op"], first["families"], first["count"]) == ("mul", ["a", "b"], 3)
    assert first["mac_share"] == pytest.approx(0.6)
    assert second["op"] == "gelu"


def test_graph_difference_is_relative_to_the_largest_logit():
    network = nn.Linear(4, 2)
    other = nn.Linear(4, 2)
    with torch.no_grad():
        other.weight.copy_(network.weight)
        other.bias.copy_(network.bias)
    images = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    assert coverage.graph_difference(other, network, images) == 0
    with torch.no_grad():
        other.bias.add_(1)
        expected = 1 / min(float(network(images[:size]).abs().max()) for size in (1, 2, 3))
    assert coverage.graph_difference(other, network, images) == pytest.approx(expected, rel=1e-4)
