import numpy as np
import pytest
from cli_helpers import ARTIFACT_FILES, assert_one_error, run_process, snapshot, write_archive, write_folder

import snnconvert

SHORT = [
    "--bits",
    "1",
    "--T",
    "1",
    "--weight-bits",
    "1",
    "--train-images",
    "200",
    "--eval-images",
    "60",
    "--epochs",
    "2",
]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_it_converts_trains_evaluates_and_saves(cli, folder):
    done = cli("finetune", "digits", *SHORT, "--validate", "--learning-rate", "3e-3", "-o", "out")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ARTIFACT_FILES
    assert done.last_line["metric"]["images"] == 60
    assert done.last_line["training"]["epochs"] == 2
    assert done.last_line["config"]["weight_bits"] == 1
    lines = (folder / "out-training" / "log.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,learning rate,loss,agreement,accuracy"
    assert len(lines) == 7
    assert float(lines[-1].split(",")[-1]) == pytest.approx(done.last_line["metric"]["snn"], abs=1e-6)
    snn = snnconvert.load(folder / "out")
    assert snn.report.training["learning_rate"] == 3e-3
    again = cli("eval", "out", "--limit", "60", "-q")
    assert again.code == 0


def test_a_file_of_options_gives_what_the_options_give(cli, folder):
    (folder / "a.toml").write_text(
        'model = "digits"\nquiet = true\n[conversion]\nbits = 1\nT = 1\nweight_bits = 1\nbias-correction = false\n'
        "[training]\nepochs = 2\ntrain_images = 200\neval_images = 60\nlearning_rate = 1.0\n"
    )
    from_file = cli("finetune", "--config", "a.toml", "--learning-rate", "1e-3", "-o", "one")
    given = cli("finetune", "digits", *SHORT, "-q", "--no-bias-correction", "--learning-rate", "1e-3", "-o", "two")
    assert from_file.code == 0, from_file.err
    assert from_file.out == given.out
    assert not from_file.last_line["config"]["bias_correction"]


@pytest.mark.parametrize(
    ("text", "word"),
    [("epoch = 2", "--epoch"), ("epochs = [", "no TOML"), ("validate = 3", "validate"), ("epochs = true", "value")],
)
def test_a_wrong_file_of_options_is_one_line(cli, folder, text, word):
    (folder / "a.toml").write_text(text)
    done = cli("finetune", "digits", "--config", "a.toml")
    assert done.code == 2
    assert word in done.err
    assert len(done.err.splitlines()) == 1


def test_a_saved_network_is_trained_on_the_users_images(cli, folder):
    write_archive(folder / "train.npz", 80)
    write_folder(folder / "test", 40)
    assert cli("digits", "--bits", "1", "--T", "1", "--weight-bits", "1", "-q", "-o", "snn").code == 0
    before = snapshot(folder / "snn")
    done = cli("finetune", "digits", "--from", "snn", "--data", "train.npz", "--eval-data", "test", "--epochs", "1",
               "--train-batch-size", "40", "-q", "-o", "out")  # fmt: skip
    assert done.code == 0, done.err
    assert snapshot(folder / "snn") == before
    assert done.last_line["metric"]["images"] == 40
    assert "80 images to train on, 40 others" in done.last_line["data"]


def test_a_tenth_is_held_out_where_nothing_else_is_given(cli, folder):
    write_archive(folder / "train.npz", 60)
    done = cli("finetune", "digits", "--data", "train.npz", "--epochs", "1", "-q", "-o", "out")
    assert done.last_line["metric"]["images"] == 6
    assert "54 images to train on" in done.last_line["data"]


def test_bad_input_is_refused_before_anything_is_written(cli, folder):
    write_archive(folder / "few.npz", 60)
    for arguments, words in [
        (["digits", "--epochs", "0"], ["epochs"]),
        (["digits", "--distillation", "2"], ["distillation"]),
        (["resnet18", "--random-weights"], ["--data"]),
        (["digits", "--from", "nowhere"], ["nowhere"]),
        (["digits", "--data", "nowhere.npz"], ["nowhere.npz"]),
        (["digits", "--hardware", "nothing"], ["nothing"]),
    ]:
        done = cli("finetune", *arguments, "-o", "out")
        assert_one_error(done, *words)
        assert sorted(path.name for path in folder.iterdir()) == ["few.npz"]


def test_a_run_goes_on_only_when_told_to(cli, folder):
    command = ["finetune", "digits", *SHORT, "-q", "-o", "out"]
    first = cli(*command)
    assert first.code == 0
    assert_one_error(cli(*command[:-1], "out2", "--run", "out-training"), "out-training", "--force")
    assert_one_error(cli(*command, "--force", "--resume", "--learning-rate", "0.5"), "other learning_rate")
    assert_one_error(cli(*command, "--force", "--resume", "--T", "2"), "begun with other T:")
    again = cli(*command, "--force", "--resume")
    assert again.out == first.out
    images = np.random.default_rng(0).random((20, 3, 64, 64), np.float32)
    np.savez(folder / "colours.npz", images=images, labels=np.arange(20) % 10)
    other = ["finetune", "test_resnet", "--random-weights", "--image-size", "64", "--data", "colours.npz"]
    other += [*command[2:], "--force", "--resume"]
    assert_one_error(cli(*other), "begun with other model:")
    (folder / "out-training" / "conversion.json").unlink()
    assert_one_error(cli(*other), "start and test_resnet don't fit")


@pytest.mark.slow
def test_two_processes_train_together(folder):
    command = ["-m", "snnconvert", "finetune", "digits", *SHORT, "-q", "-o", "out"]
    done = run_process([*TWO, *command], folder, OMP_NUM_THREADS="1")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert done.last_line["metric"]["images"] == 60


def test_widths_are_learned_towards_their_targets(cli, folder):
    done = cli("finetune", "digits", "--bits", "3", "--T", "1", "--weight-bits", "3", "--learn-bits",
               "--target-weight-bits", "2.5", "--target-spike-bits", "2", "--train-images", "300", "--epochs", "4",
               "--eval-images", "100", "-q", "-o", "out")  # fmt: skip
    assert done.code == 0, done.err
    assert done.last_line["training"]["learned_bits"]["target_spike_bits"] == 2
    inner = [layer for layer in snnconvert.load(folder / "out").report.layers if layer.name not in ("stem.0", "fc")]
    weights = sum(layer.weights for layer in inner)
    assert sum(layer.weight_bits * layer.weights for layer in inner) / weights <= 2.5
    inputs = sum(layer.inputs for layer in inner)
    assert sum(layer.spike_bits * layer.inputs for layer in inner) / inputs <= 2
    assert done.last_line["metric"]["snn"] > 0.9
    assert_one_error(cli("finetune", "digits", "--target-T", "1"), "--target-T", "--learn-bits")
    assert_one_error(cli("finetune", "digits", "--learn-bits", "--from", "out"), "--from")


@pytest.mark.slow
def test_small_networks_are_found_by_name(cli, folder):
    for arguments, words in [(["small/resnet21"], ["resnet20", "vgg16"]), (["small/vgg8"], ["--checkpoint"])]:
        assert_one_error(cli(*arguments, "-o", "out"), *words)
    done = cli("small/resnet20", "--random-weights", "--dry-run", "-q")
    assert done.code == 0
    assert done.last_line["totals"]["macs"] == 40_551_040
