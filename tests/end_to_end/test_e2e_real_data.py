"""Networks with real weights on real images; skipped where these aren't there."""

import csv

import pytest
from real_folders import data_or_skip

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.trained.mnist import load_mnist_images, load_mnist_network
from snnconvert.cli.main import main
from snnconvert.evaluation import compare


def batches(images, labels, size=100):
    return [(images[start : start + size], labels[start : start + size]) for start in range(0, len(images), size)]


@pytest.fixture(scope="module")
def cifar10():
    folder = data_or_skip("cifar10")
    calibration, _ = load_cifar_images(folder, "train", 512)
    images, labels = load_cifar_images(folder, "test")
    return load_cifar_resnet(folder, 20), calibration, batches(images, labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight_bits", "bits", "T", "points", "agreement"),
    [(8, 2, 4, 0.3, 0.99), (8, 1, 4, 1.0, 0.9), (4, 1, 4, 2.0, 0.9)],
)
def test_cifar10_resnet20_keeps_its_accuracy(cifar10, weight_bits, bits, T, points, agreement):
    ann, calibration, evaluated = cifar10
    config = snnconvert.ConversionConfig(bits=bits, T=T, weight_bits=weight_bits)
    snn = snnconvert.convert(ann, calibration, config, progress=False)
    evaluation = compare(ann, snn, evaluated)
    metric = evaluation.metric()
    assert metric.images == 1000
    assert metric.ann > 0.9
    assert 100 * (metric.ann - metric.snn) <= points + 1e-9
    assert evaluation.fidelity("test images").top1_agreement >= agreement
    assert snn.report.coverage.macs_on_spikes == 1


@pytest.fixture
def imagenet_folder(tmp_path):
    """The labelled images as links in one folder for each class index, and the checkpoint."""
    folder = data_or_skip("imagenet")
    with (folder / "val.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        place = tmp_path / "images" / row["class_index"]
        place.mkdir(parents=True, exist_ok=True)
        (place / row["file"]).symlink_to(folder / "val" / row["file"])
    return tmp_path / "images", folder / "mobilenetv2_100.safetensors", len(rows)


@pytest.mark.slow
def test_imagenet_mobilenet_keeps_its_accuracy_through_the_command_line(imagenet_folder, tmp_path, capsys):
    images, checkpoint, count = imagenet_folder
    out = tmp_path / "out"
    arguments = ["mobilenetv2_100", "--checkpoint", checkpoint, "--data", images, "--bits", "2", "--T", "4", "-o", out]
    assert main([str(argument) for argument in arguments] + ["--quiet"]) == 0
    report = snnconvert.load(out).report
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert report.metric is not None
    assert report.metric.images == count - 128
    assert report.metric.ann > 0.75
    assert 100 * (report.metric.ann - report.metric.snn) <= 1.5
    assert report.coverage.macs_on_spikes == 1


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "T", "points"), [(2, 4, 0.3), (1, 4, 1.0)])
def test_mnist_network_keeps_its_accuracy(bits, T, points):
    folder = data_or_skip("mnist")
    ann = load_mnist_network(folder)
    images, labels = load_mnist_images(folder)
    snn = snnconvert.convert(ann, images[:256], snnconvert.ConversionConfig(bits=bits, T=T), progress=False)
    metric = compare(ann, snn, batches(images[256:], labels[256:], 500)).metric()
    assert metric.images == 9744
    assert metric.ann > 0.97
    assert 100 * (metric.ann - metric.snn) <= points
