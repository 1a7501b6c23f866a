import gc

import numpy as np
import pytest
import torch
from cli_helpers import assert_one_error, digit_pixels, snapshot, write_archive, write_folder
from PIL import Image
from slow_cases import mostly_slow

from snnconvert.cli import convert_command


@pytest.fixture
def opened(monkeypatch):
    """Records the image sets a command opens."""
    sets = []
    original = convert_command.open_images

    def record(*arguments, **settings):
        sets.append(original(*arguments, **settings))
        return sets[-1]

    monkeypatch.setattr(convert_command, "open_images", record)
    return sets


def refused(cli, folder, *arguments, words=()):
    before = snapshot(folder)
    outcome = cli("digits", *arguments)
    assert_one_error(outcome, *words)
    assert snapshot(folder) == before


def stacked(images):
    inputs, labels = zip(*(images[i] for i in range(len(images))), strict=True)
    return torch.stack(inputs), labels


@pytest.mark.parametrize("kind", mostly_slow(["archive", "folder"], keep=["archive"]))
def test_labelled_digits_give_accuracy(cli, tmp_path, kind):
    path = write_archive(tmp_path / "digits.npz", 300) if kind == "archive" else write_folder(tmp_path / "digits", 300)
    outcome = cli("digits", "--data", path, "--calib-images", "100", "-o", "out")
    assert outcome.code == 0, outcome.err
    metric = outcome.last_line["metric"]
    assert metric["images"] == 200
    assert outcome.last_line["calibration_images"] == 100
    assert metric["ann"] > 0.97
    assert abs(metric["ann"] - metric["snn"]) <= 0.01
    assert str(path) in outcome.last_line["data"]
    assert not any("no labels" in note for note in outcome.last_line["notes"])


@pytest.mark.parametrize("kind", mostly_slow(["archive", "folder"], keep=["folder"]))
def test_evaluation_images_are_no_calibration_images(cli, tmp_path, opened, kind):
    path = write_archive(tmp_path / "d.npz", 80) if kind == "archive" else write_folder(tmp_path / "d", 80)
    assert cli("digits", "--data", path, "--calib-images", "30", "-o", "out").code == 0
    (sets,) = opened
    calibration, _ = stacked(sets.calibration)
    evaluation, labels = stacked(sets.evaluation)
    assert (len(calibration), len(evaluation)) == (30, 50)
    assert not (calibration[:, None] == evaluation[None]).flatten(2).all(2).any()
    assert set(labels) == set(range(10))


def test_labels_are_those_of_the_images(cli, tmp_path):
    _, labels = digit_pixels(120)
    right = write_archive(tmp_path / "right.npz", 120)
    wrong = write_archive(tmp_path / "wrong.npz", 120, labels=(labels + 1) % 10)
    few = ["--calib-images", "20", "-q"]
    assert cli("digits", "--data", right, "-o", "a", *few).last_line["metric"]["ann"] > 0.95
    assert cli("digits", "--data", wrong, "-o", "b", *few).last_line["metric"]["ann"] < 0.05


def test_archive_without_labels_gives_fidelity(cli, tmp_path):
    path = write_archive(tmp_path / "digits.npz", 60, labels=None)
    report = cli("digits", "--data", path, "-o", "out").last_line
    assert report["metric"] is None
    assert report["fidelity"]["top1_agreement"] > 0.9
    assert any("no labels" in note for note in report["notes"])


def test_val_folder_evaluates_and_train_folder_calibrates(cli, tmp_path):
    write_folder(tmp_path / "data" / "val", 40)
    write_folder(tmp_path / "data" / "train", 60)
    report = cli("digits", "--data", tmp_path / "data", "--calib-images", "50", "-o", "out").last_line
    assert report["metric"]["images"] == 40
    assert report["calibration_images"] == 50


def test_wanted_number_of_images(cli, tmp_path):
    path = write_archive(tmp_path / "digits.npz", 60)
    report = cli("digits", "--data", path, "--calib-images", "7", "--eval-images", "11", "-o", "out").last_line
    assert (report["calibration_images"], report["metric"]["images"]) == (7, 11)


def test_images_are_left_alone(cli, tmp_path):
    write_folder(tmp_path / "digits", 40)
    before = snapshot(tmp_path / "digits")
    assert cli("digits", "--data", tmp_path / "digits", "-q").code == 0
    assert snapshot(tmp_path / "digits") == before


@pytest.mark.parametrize("label", [10, -1])
def test_label_out_of_range(cli, folder, tmp_path, label):
    _, labels = digit_pixels(60)
    labels = labels.copy()
    labels[17] = label
    path = write_archive(tmp_path / "d.npz", labels=labels)
    refused(cli, folder, "--data", path, words=[f"label {label}", "image 17", "0 to 9"])


def test_nan_pixels(cli, folder, tmp_path):
    images = digit_pixels(60)[0].astype(np.float32) / 255
    images[23, 4, 4] = np.nan
    refused(cli, folder, "--data", write_archive(tmp_path / "d.npz", images=images), words=["image 23", "NaN"])


def test_pixels_out_of_range(cli, folder, tmp_path):
    images = digit_pixels(60)[0].astype(np.float32)
    refused(cli, folder, "--data", write_archive(tmp_path / "d.npz", images=images), words=["0..1"])


def test_empty_archives(cli, folder, tmp_path):
    np.savez(tmp_path / "none.npz")
    refused(cli, folder, "--data", tmp_path / "none.npz", words=["no array of images"])
    none = write_archive(tmp_path / "empty.npz", images=np.zeros((0, 8, 8, 1), np.uint8), labels=np.zeros(0, int))
    refused(cli, folder, "--data", none, words=["empty"])
    (tmp_path / "zero.npz").write_bytes(b"")
    refused(cli, folder, "--data", tmp_path / "zero.npz", words=["zero.npz"])


def test_one_image_is_too_few(cli, folder, tmp_path):
    refused(cli, folder, "--data", write_archive(tmp_path / "d.npz", 1), words=["1 image"])


def test_fewer_labels_than_images(cli, folder, tmp_path):
    path = write_archive(tmp_path / "d.npz", labels=np.zeros(59, np.int64))
    refused(cli, folder, "--data", path, words=["59 labels", "60 images"])


def test_pickled_objects_in_an_archive(cli, folder, tmp_path):
    path = write_archive(tmp_path / "d.npz", labels=np.array([{"a": 1}] * 60, dtype=object))
    refused(cli, folder, "--data", path, words=["labels", "pickled"])


def test_empty_folders(cli, folder, tmp_path):
    (tmp_path / "data").mkdir()
    refused(cli, folder, "--data", tmp_path / "data", words=["class folders"])
    for label in range(10):
        (tmp_path / "data" / str(label)).mkdir()
    refused(cli, folder, "--data", tmp_path / "data", words=["no images"])


def test_class_folder_out_of_range(cli, folder, tmp_path):
    write_folder(tmp_path / "data", 40)
    (tmp_path / "data" / "10").mkdir()
    refused(cli, folder, "--data", tmp_path / "data", words=["10", "0 to 9"])


def test_number_of_named_class_folders(cli, folder, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / name / "a.png")
    refused(cli, folder, "--data", tmp_path / "data", words=["2 class folders", "10 classes"])


def test_data_that_is_not_there_or_no_data(cli, folder, tmp_path):
    refused(cli, folder, "--data", tmp_path / "absent", words=["absent"])
    (tmp_path / "notes.txt").write_text("text")
    refused(cli, folder, "--data", tmp_path / "notes.txt", words=["notes.txt", ".npz"])


@pytest.mark.parametrize(("workers", "split"), mostly_slow([("0", "val"), ("2", "train")], keep=1))
def test_damaged_image_is_named_in_one_line(cli, folder, tmp_path, workers, split):
    write_folder(tmp_path / "data" / "val", 30)
    write_folder(tmp_path / "data" / "train", 30)
    broken = tmp_path / "data" / split / "3" / "0003.png"
    broken.write_bytes(broken.read_bytes()[:50])
    refused(cli, folder, "--data", tmp_path / "data", "-j", workers, "-b", "8", words=[str(broken), "can't be read"])
    gc.collect()  # ends the loader's workers, which would hold up those of a later test


@pytest.mark.slow
def test_worker_processes_change_nothing(cli, tmp_path):
    path = write_folder(tmp_path / "digits", 60)
    alone, together = (
        cli("digits", "--data", path, "-j", workers, "-b", "8", "-o", f"out{workers}") for workers in ("0", "2")
    )
    assert together.code == 0, together.err
    assert together.err == ""
    assert together.last_line == alone.last_line
