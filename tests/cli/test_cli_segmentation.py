"""``--task segmentation`` on tiny data: a small .onnx network, and torchvision's LRASPP."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch
from cli_helpers import ARTIFACT_FILES, assert_one_error, snapshot
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from task_data import write_image, write_mask, write_masked
from torchmetrics.classification import MulticlassJaccardIndex

import snnconvert
from snnconvert.data.division import Wishes
from snnconvert.data.masks import open_masks
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.energy.profile import load_profile
from snnconvert.models.onnx.model import load_onnx
from snnconvert.report.hardware import on_hardware

SIZE = (24, 32)


def write_onnx(path, classes=4, dense=True):
    """Two convolutions, the second of stride 2."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * 0.4,
        "b1": rng.normal(size=8) * 0.2,
        "w2": rng.normal(size=(classes, 8, 3, 3)) * 0.3,
        "b2": rng.normal(size=classes) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["y"], pads=[1] * 4, strides=[2, 2]),
    ]
    if not dense:
        nodes.append(helper.make_node("GlobalAveragePool", ["y"], ["p"]))
        nodes.append(helper.make_node("Flatten", ["p"], ["z"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *SIZE])],
        [helper.make_tensor_value_info("y" if dense else "z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def expected_miou(network, root, names, preprocessing):
    metric = MulticlassJaccardIndex(4, average="macro", ignore_index=255)
    for name in names:
        mask = torch.from_numpy(np.array(Image.open(root / "masks/val" / name)).astype(np.int64))
        image = preprocessing(Image.open(root / "images/val" / name))[None]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(network(image), mask.shape, mode="bilinear")
        metric.update(logits.argmax(1), mask[None])
    return float(metric.compute())


def test_miou_of_both_networks(cli, folder):
    net, root = write_onnx(folder / "net.onnx"), folder / "data"
    write_masked(root, 5, "images/val", "masks/val")
    write_masked(root, 6, "images/train", "masks/train", first=10)
    done = cli(net, "--task", "segmentation", "--data", root, "--bits", 2, "--T", 2, "-o", "out", "-b", 2)
    assert done.code == 0, done.err
    report = json.loads((folder / "out/report.json").read_text())
    assert sorted(path.name for path in (folder / "out").iterdir()) == ARTIFACT_FILES
    snn = snnconvert.load(folder / "out")
    preprocessing = Preprocessing.from_description(report["preprocessing"])
    names = sorted(path.name for path in (root / "images/val").iterdir())
    metric = done.last_line["metric"]
    assert (metric["name"], metric["images"]) == ("mIoU", 5)
    ann = load_onnx(net).module
    assert metric["ann"] == pytest.approx(expected_miou(ann, root, names, preprocessing), abs=1e-6)
    assert metric["snn"] == pytest.approx(expected_miou(snn, root, names, preprocessing), abs=1e-6)
    low, high = metric["difference_ci95"]
    assert low <= high
    assert report["task"] == done.last_line["task"] == snn.report.task == "segmentation"
    assert report["calibration_images"] == 6
    assert 0 < report["fidelity"]["top1_agreement"] <= 1
    assert "mIoU" in done.out
    for engine in ("packed", "stepwise", "torch", "onnxruntime"):
        again = cli("eval", "out", "--task", "segmentation", "--data", root, "--engine", engine, "-b", 2)
        assert again.code == 0, again.err
        (score,) = again.last_line["metrics"]
        assert (score["name"], score["images"], again.last_line["engine"]) == ("mIoU", 5, engine)
        assert score["value"] == pytest.approx(metric["snn"], abs=1e-6)
        assert score["ci95"][0] <= score["value"] <= score["ci95"][1]
        assert "mIoU: " in again.out
    assert again.last_line["data"] == done.last_line["data"]


def test_miou_in_time(cli, folder):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 6)
    done = cli(net, "--task", "segmentation", "--data", root, "--neuron", "if", "--bits", 2, "--T", 3, "-o", "out")
    assert done.code == 0, done.err
    timed = cli("simulate", "out", "--task", "segmentation", "--data", root, "--plots", "pictures", "-b", 2)
    assert timed.code == 0, timed.err
    curve = timed.last_line["curve"]
    assert curve["metric"] == "mIoU"
    assert curve["images"] == done.last_line["metric"]["images"] == 3
    assert curve["accuracy"][-1] == pytest.approx(done.last_line["metric"]["snn"], abs=1e-6)
    assert curve["agreement"][-1] == 1.0
    snn = snnconvert.load(folder / "out")
    preprocessing = Preprocessing.from_description(snn.report.preprocessing)
    sets = open_masks(root, preprocessing, num_classes=4, void=255, wishes=Wishes(snn.report.calibration_images))
    first = MulticlassJaccardIndex(4, average="macro", ignore_index=255)
    same = 0.0
    for image, mask in (sets.evaluation[index] for index in range(3)):
        readout = snn.simulate(image[None]).readout[:, 0]
        logits = torch.nn.functional.interpolate(readout[:1], mask.shape, mode="bilinear")
        first.update(logits.argmax(1), mask[None])
        same += float((readout[0].argmax(0) == readout[-1].argmax(0)).double().mean()) / 3
    assert curve["accuracy"][0] == pytest.approx(float(first.compute()), abs=1e-6)
    assert curve["agreement"][0] == pytest.approx(same)
    assert (folder / "pictures/curve.png").stat().st_size > 0
    page = cli("report", "out", "--simulation", save_line(folder / "time.json", timed))
    assert page.code == 0, page.err
    assert "mIoU in time" in (folder / "out/report.html").read_text()


def save_line(path, outcome):
    path.write_text(json.dumps(outcome.last_line))
    return path


def test_what_a_saved_segmenter_refuses(cli, folder):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 4)
    assert cli(net, "--task", "segmentation", "--data", root, "-o", "out", "-q").code == 0
    assert_one_error(cli("eval", "out", "--task", "detection"), "converted for segmentation")
    assert_one_error(cli("eval", "out", "--checkpoint", "a.pth"), "--checkpoint")
    assert_one_error(cli("eval", "out", "--calib-images", 0), "--calib-images")
    assert_one_error(cli("eval", "out", "--data", root, "--void", 0), "void is 0")
    alone = cli("eval", "out", "--eval-images", 2, "--engine", "stepwise", "-q")
    assert alone.last_line["metrics"] == []
    assert alone.last_line["packed"]["top1_agreement"] == 1.0


def test_energies_are_those_of_the_hardware(cli, folder):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 4)
    arguments = [net, "--task", "segmentation", "--data", root, "-q"]
    usual = cli(*arguments, "-o", "usual")
    done = cli(*arguments, "--hardware", "edge_cpu", "-o", "out")
    assert done.code == 0, done.err
    report = snnconvert.load(folder / "out").report
    before = snnconvert.load(folder / "usual").report
    assert report.energy == on_hardware(before, load_profile("edge_cpu")).energy
    assert report.energy.summary()["totals"] != before.energy.summary()["totals"]
    assert (report.metric, report.totals) == (before.metric, before.totals)
    assert usual.last_line["metric"] == done.last_line["metric"]
    assert_one_error(cli(*arguments, "--hardware", "cmos1", "-o", "none"), "cmos1")


@pytest.mark.parametrize("labelled", [False, None])
def test_without_masks(cli, folder, labelled):
    net, arguments = write_onnx(folder / "net.onnx"), ["--calib-images", 3, "--eval-images", 3]
    if labelled is not None:
        for number in range(6):
            write_image(folder / f"data/{number}.png", seed=number)
        arguments += ["--data", folder / "data"]
    done = cli(net, "--task", "segmentation", *arguments, "-o", "out", "-q")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert done.last_line["metric"] is None
    assert done.last_line["fidelity"]["images"] == 3
    assert any("no masks" in note for note in done.last_line["notes"])


def test_without_data_to_calibrate_on(cli, folder):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 4)
    done = cli(net, "--task", "segmentation", "--data", root, "--calib", "none", "-o", "out", "-q")
    assert done.code == 0, done.err
    assert done.last_line["calibration_images"] == 0
    assert done.last_line["metric"]["name"] == "mIoU"


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("net.onnx", ()),
        pytest.param("lraspp_mobilenet_v3_large", ("--image-size", 64), marks=pytest.mark.slow),
    ],
)
def test_dry_run(cli, folder, model, options):
    write_onnx(folder / "net.onnx")
    before = snapshot(folder)
    done = cli(model, "--task", "segmentation", *options, "--dry-run")
    assert done.code == 0, done.err
    assert done.last_line["task"] == "segmentation"
    assert done.last_line["coverage"]["macs_on_spikes"] > 0.9
    assert snapshot(folder) == before


def bad_class(root):
    for path in (root / "masks").iterdir():
        write_mask(path, classes=90, seed=1)


def bad_size(root):
    for path in (root / "masks").iterdir():
        write_mask(path, width=16)


def no_image(root):
    (root / "images/000.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (bad_class, [], ["masks/00", "classes 0 to 3"]),
        (bad_size, [], ["16 x 30"]),
        (no_image, [], ["000.png has no image"]),
        (None, ["--void", 0], ["void is 0"]),
        (None, ["--annotations", "a.json"], ["--annotations", "detection"]),
        (None, ["--num-classes", 7], ["4 classes, not 7"]),
        (None, ["--checkpoint", "a.pth"], ["--checkpoint"]),
        (None, ["--data", "missing"], ["missing"]),
        (None, ["--calib-images", 0], ["--calib-images"]),
    ],
)
def test_bad_input(cli, folder, spoil, arguments, words):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 4)
    if spoil is not None:
        spoil(root)
    before = snapshot(folder)
    assert_one_error(cli(net, "--task", "segmentation", "--data", root, "-o", "out", "-q", *arguments), *words)
    assert snapshot(folder) == before


def test_a_missing_extra_is_named_before_any_work(cli, folder, monkeypatch):
    net, root = write_onnx(folder / "net.onnx"), write_masked(folder / "data", 4)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    before = snapshot(folder)
    assert_one_error(cli(net, "--task", "segmentation", "--data", root), "torchmetrics", "snnconvert[tasks]")
    assert snapshot(folder) == before


def test_networks_that_cannot_be_used(cli, folder):
    net = write_onnx(folder / "net.onnx", dense=False)
    before = snapshot(folder)
    for model, words in (
        (net, ["[N, classes, H, W]"]),
        ("lrasp_mobilenet_v3_large", ["did you mean lraspp_mobilenet_v3_large"]),
        ("digits", ["deeplabv3_resnet50"]),
        ("none.onnx", ["none.onnx"]),
    ):
        assert_one_error(
            cli(model, "--task", "segmentation", "--random-weights" if model == "digits" else "-q"), *words
        )
    assert_one_error(cli("digits", "--void", 3), "--void", "segmentation")
    assert snapshot(folder) == before


@pytest.mark.slow
def test_lraspp_from_a_checkpoint(cli, folder):
    from torchvision.models import get_model

    torch.manual_seed(3)
    model = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=4).eval()
    torch.save({"model": {**model.state_dict(), "aux_classifier.0.weight": torch.zeros(1)}}, folder / "weights.pth")
    root = write_masked(folder / "data", 8)
    done = cli(
        "lraspp_mobilenet_v3_large", "--task", "segmentation", "--checkpoint", folder / "weights.pth", "--num-classes",
        4, "--image-size", 64, "--data", root, "--calib-images", 4, "-o", "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.last_line["metric"]["images"] == 4
    x = torch.randn(2, 3, 64, 64)
    snn = snnconvert.load(folder / "out")
    with torch.no_grad():
        assert snn(x)["out"].shape == model(x)["out"].shape == (2, 4, 64, 64)
