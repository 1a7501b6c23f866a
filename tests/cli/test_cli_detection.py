"""``--task detection`` on tiny data: a detector of torchvision with a tiny backbone, and SSDLite."""

import json
import shutil

import pytest
import torch
from cli_helpers import assert_one_error, snapshot
from slow_cases import mostly_slow
from task_data import coco, voc_xml, write_coco, write_voc
from tiny_detectors import build
from torchmetrics.detection import MeanAveragePrecision

import snnconvert
from snnconvert.cli.main import main
from snnconvert.data.boxes import LabelRange
from snnconvert.data.detection_sets import open_boxes
from snnconvert.data.division import Wishes
from snnconvert.data.pixels import image_to_tensor
from snnconvert.energy.profile import load_profile
from snnconvert.errors import ArtifactError
from snnconvert.models import task_models
from snnconvert.report.hardware import on_hardware
from snnconvert.report.parts_report import PartsReport

NAMES = ("background", "person", "dog", "airplane")


def livened(kind):
    """A detector whose boxes depend on the image; some of them are near the labels of the tiny data."""
    net = build(kind)
    net.detections_per_img = 30
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "head" in name or "predictor" in name:
                fan_in = max(parameter[0].numel(), 1)
                parameter.copy_(torch.randn(parameter.shape) * (0.1 if parameter.dim() == 1 else fan_in**-0.5))
    return net


@pytest.fixture
def tiny(monkeypatch):
    """Any name of torchvision's detectors stands for a tiny RetinaNet."""
    monkeypatch.setattr(task_models, "_build", lambda *_: (livened("retinanet"), NAMES, 4))
    return "retinanet_resnet50_fpn", "--task", "detection", "--random-weights"


def by_torchmetrics(network, items):
    metric = MeanAveragePrecision()
    with torch.no_grad():
        metric.update([network([image])[0] for image, _ in items], [target for _, target in items])
    return metric.compute()


def test_map_of_both_networks(cli, folder, tiny):
    write_coco(folder / "data", 8)
    done = cli(*tiny, "--data", "data", "--calib-images", 3, "--bits", 4, "--T", 2, "-o", "out")
    assert done.code == 0, done.err
    hybrid = snnconvert.HybridModel.load(folder / "out", livened("retinanet"))
    summary, report = done.last_line, json.loads((folder / "out/report.json").read_text())
    assert list(hybrid.parts) == list(report["parts"]) == list(summary["parts"]) == ["backbone", "head"]
    sets = open_boxes(
        folder / "data", image_to_tensor, labels=LabelRange(0, 4), names=NAMES, wishes=Wishes(calibration_images=3)
    )
    items = [sets.evaluation[index] for index in range(len(sets.evaluation))]
    names = [metric["name"] for metric in summary["metrics"]]
    assert names[:2] == ["mAP", "mAP50"]
    for network, key in ((livened("retinanet"), "ann"), (hybrid, "snn")):
        expected = by_torchmetrics(network, items)
        found = [metric[key] for metric in summary["metrics"][:2]]
        assert found == pytest.approx([float(expected["map"]), float(expected["map_50"])], abs=1e-4)
    assert summary["metric"] == summary["metrics"][0]
    assert summary["metric"]["images"] == 5
    assert summary["coverage"]["macs_on_spikes"] == pytest.approx(hybrid.coverage)
    for name, part in summary["parts"].items():
        assert part["coverage"]["macs_on_spikes"] > 0.5
        assert report["parts"][name]["totals"] == part["totals"]
        assert hybrid.parts[name].report.model == f"retinanet_resnet50_fpn: {name}"
    assert "non-maxima" in report["outside"][""]
    assert "mAP50" in done.out
    again = PartsReport.from_dict(report)
    assert json.loads(json.dumps(again.to_dict())) == report
    assert json.loads(json.dumps(again.summary())) == summary
    for damaged in ({**report, "schema": "snnconvert.report/2"}, {**report, "metrics": None}, {**report, "more": 1}):
        with pytest.raises(ArtifactError):
            PartsReport.from_dict(damaged)


@pytest.fixture(scope="module")
def conversion(tmp_path_factory):
    """A folder with the tiny detector in out/ and its images in data/."""
    place = tmp_path_factory.mktemp("detector")
    write_coco(place / "data", 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(task_models, "_build", lambda *_: (livened("retinanet"), NAMES, 4))
        words = "retinanet_resnet50_fpn --task detection --random-weights --data data --calib-images 3 --bits 4 --T 2"
        assert main([*words.split(), "-o", "out", "-q"]) == 0
    return place


@pytest.fixture
def converted(conversion, folder, tiny):
    """The same in the working directory: what the conversion reported."""
    shutil.copytree(conversion, folder, dirs_exist_ok=True)
    return json.loads((folder / "out/report.json").read_text())


@pytest.mark.parametrize(
    "engine", mostly_slow(["packed", "stepwise", "torch", "onnxruntime"], keep=("packed", "stepwise", "torch"))
)
def test_map_in_an_engine(cli, folder, converted, engine):
    done = cli("eval", "out", "--task", "detection", "--data", "data", "--engine", engine, "-b", 1)
    assert done.code == 0, done.err
    assert (done.last_line["task"], done.last_line["images"], done.last_line["engine"]) == ("detection", 5, engine)
    assert done.last_line["accuracy"] is None
    scores = {score["name"]: score for score in done.last_line["metrics"]}
    assert list(scores) == ["mAP", "mAP50"]
    for metric in converted["metrics"][:2]:
        score = scores[metric["name"]]
        assert score["value"] == pytest.approx(metric["snn"], abs=1e-6)
        assert score["ci95"][0] <= score["ci95"][1]
    assert "mAP50: " in done.out
    assert done.last_line["data"] == converted["data"]


def test_words_of_the_parts_in_an_engine(cli, folder, converted):
    done = cli("eval", "out", "--data", "data", "--engine", "torch", "--verify", "--limit", 2)
    assert done.code == 0, done.err
    packed = done.last_line["packed"]
    assert packed["mismatches"] == 0
    assert packed["largest_difference"] < 1e-4
    hybrid = snnconvert.HybridModel.load(folder / "out", livened("retinanet"))
    names = [f"{part}: {layer}" for part, snn in hybrid.parts.items() for layer, _ in snn.neurons()]
    assert [layer["layer"] for layer in packed["layers"]] == names
    assert all(layer["words"] > 0 for layer in packed["layers"])


def test_detection_in_time(cli, folder, converted):
    done = cli("simulate", "out", "--task", "detection", "--data", "data", "--eval-images", 5)
    assert done.code == 0, done.err
    curve = done.last_line["curve"]
    assert (curve["metric"], curve["images"], curve["ticks"]) == ("mAP", 5, [done.last_line["ticks"]])
    assert curve["accuracy"] == [pytest.approx(converted["metric"]["snn"], abs=1e-6)]
    names = [layer["name"] for layer in done.last_line["layers"]]
    assert {name.partition(": ")[0] for name in names} == {"backbone", "head"}
    assert all(layer["unevenness"]["differing"] == 0 for layer in done.last_line["layers"])
    assert "mAP" in done.out


def test_a_detector_without_labels_in_an_engine(cli, folder, converted):
    done = cli("eval", "out", "--eval-images", 2, "--engine", "stepwise", "-q")
    assert done.code == 0, done.err
    (score,) = done.last_line["metrics"]
    assert "packed network's boxes" in score["name"]
    assert score["value"] > 0.98  # what it is unsure of ranks among what it is sure of


def test_what_a_saved_detector_refuses(cli, folder, converted):
    assert_one_error(cli("eval", "out", "--task", "segmentation"), "converted for detection")
    assert_one_error(cli("eval", "out", "--void", 3), "--void")
    assert_one_error(cli("eval", "out", "--engine", "packed", "--verify"), "--verify")
    assert_one_error(cli("simulate", "out", "--plots", "pictures"), "--plots")
    assert_one_error(cli("export", "out", "--to", "onnx"), "parts of a network")
    report = json.loads((folder / "out/report.json").read_text())
    (folder / "out/report.json").write_text(json.dumps({**report, "source": {}}))
    assert_one_error(cli("eval", "out"), "parts of a network", "HybridModel.load")
    (folder / "out/report.json").write_text(json.dumps({**report, "source": {"nom": 3}}))
    assert_one_error(cli("eval", "out"), "damaged")


@pytest.mark.slow
def test_energies_are_those_of_the_hardware(cli, folder, tiny):
    arguments = [*tiny, "--calib-images", 2, "--eval-images", 2, "-q"]
    assert cli(*arguments, "-o", "usual").code == 0
    done = cli(*arguments, "--hardware", "edge_cpu", "-o", "out")
    assert done.code == 0, done.err
    usual, whole = (
        PartsReport.from_dict(json.loads((folder / name / "report.json").read_text())) for name in ("usual", "out")
    )
    parts = snnconvert.HybridModel.load(folder / "out", livened("retinanet")).report
    for name, report in whole.parts.items():
        assert report.energy == on_hardware(usual.parts[name], load_profile("edge_cpu")).energy
        assert report.energy.summary()["totals"] != usual.parts[name].energy.summary()["totals"]
        assert report.energy == parts[name].energy
    assert_one_error(cli(*arguments, "--hardware", "cmos1", "-o", "none"), "cmos1")


def test_without_labels(cli, folder, tiny):
    done = cli(*tiny, "--calib-images", 2, "--eval-images", 2, "-o", "out", "-q")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert any("no boxes are given" in note for note in done.last_line["notes"])
    (metric,) = done.last_line["metrics"]
    assert "ANN's boxes" in metric["name"]
    assert metric["ann"] == 1.0
    assert 0 <= metric["snn"] < 1


@pytest.mark.slow
def test_the_same_again(cli, folder, tiny):
    write_voc(folder / "data", 6)
    arguments = [*tiny, "--data", "data", "--calib-images", 3, "-q"]
    first, second = cli(*arguments, "-o", "one"), cli(*arguments, "-o", "two", "-b", 1)
    assert first.code == 0, first.err
    assert first.out == second.out
    one, two = snapshot(folder / "one"), snapshot(folder / "two")
    assert one == two


def test_dry_run(cli, folder, tiny):
    before = snapshot(folder)
    done = cli(*tiny, "--dry-run")
    assert done.code == 0, done.err
    assert list(done.last_line["parts"]) == ["backbone", "head"]
    assert all(part["layers"] for part in done.last_line["parts"].values())
    assert "part backbone" in done.out
    assert snapshot(folder) == before


def data_of(folder, kind):
    root = folder / "data"
    if kind == "coco":
        return write_coco(root, 4)
    if kind == "class":
        data = coco(4)
        data["annotations"][3]["category_id"] = 17
        return write_coco(root, 4, data=data)
    if kind == "box":
        data = coco(4)
        data["annotations"][3]["bbox"] = [30, 20, 30, 30]
        return write_coco(root, 4, data=data)
    if kind == "missing":
        write_coco(root, 4)
        (root / "val2017/002.png").unlink()
        return root
    if kind == "doctype":
        return write_voc(root, 4, voc_xml(head="<!DOCTYPE a>"))
    return write_coco(root, 4, data=[1])


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("class", [], ["class 17", "0 to 3"]),
        ("box", [], ["annotation 11", "outside of its image"]),
        ("missing", [], ["002.png"]),
        ("doctype", [], ["DOCTYPE", ".xml"]),
        ("list", [], ["instances_val2017.json", "a list"]),
        ("coco", ["--annotations", "none.json"], ["none.json"]),
        ("coco", ["--void", 3], ["--void"]),
        ("coco", ["--calib", "none"], ["--calib none"]),
        ("coco", ["--seed", -1], ["seed"]),
    ],
)
def test_bad_input(cli, folder, tiny, kind, arguments, words):
    root = data_of(folder, kind)
    before = snapshot(folder)
    assert_one_error(cli(*tiny, "--data", root, "-o", "out", "-q", *arguments), *words)
    assert snapshot(folder) == before


def test_networks_that_cannot_be_used(cli, folder):
    (folder / "net.onnx").write_bytes(b"")
    before = snapshot(folder)
    for model, words in (
        ("net.onnx", ["from file to file", "Python"]),
        ("fasterrcnn_resnet50", ["did you mean fasterrcnn_resnet50_fpn"]),
        ("resnet50", ["detection models"]),
    ):
        assert_one_error(cli(model, "--task", "detection", "--dry-run"), *words)
    assert_one_error(cli("x", "--task", "detection", "--annotations", "a.json"), "--data")
    assert snapshot(folder) == before


@pytest.mark.slow
def test_ssdlite(cli, folder):
    write_coco(folder / "data", 4)
    done = cli(
        "ssdlite320_mobilenet_v3_large", "--task", "detection", "--random-weights", "--num-classes", 4,
        "--image-size", 96, "--data", "data", "--calib-images", 2, "-o", "out", "-q",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.last_line["metric"]["name"] == "mAP"
    assert done.last_line["coverage"]["macs_on_spikes"] > 0.95
