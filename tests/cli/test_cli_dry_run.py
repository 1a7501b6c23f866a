import pytest
from cli_helpers import assert_one_error, write_archive

KEYS = ["schema", "model", "coverage", "totals", "layers", "analog"]


@pytest.mark.parametrize(
    ("model", "synapses", "layers", "analog"),
    [
        ("digits", 7, ["stem.0", "fc"], []),
        ("resnet18", 21, ["conv1", "layer4.1.conv2", "fc"], []),
        pytest.param("mobilenetv2_100", 53, ["conv_stem", "classifier"], [], marks=pytest.mark.slow),
        pytest.param(
            "vit_tiny_patch16_224",
            74,
            ["patch_embed.proj", "blocks.0.attn.matmul", "blocks.11.mlp.fc2", "head"],
            ["layer_norm", "softmax"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_dry_run_shows_the_plan_and_writes_nothing(cli, folder, model, synapses, layers, analog):
    outcome = cli(model, *([] if model == "digits" else ["--random-weights"]), "--dry-run", "-o", "out")
    assert outcome.code == 0
    assert outcome.err == ""
    assert list(folder.iterdir()) == []
    plan = outcome.last_line
    assert list(plan) == KEYS
    assert plan["schema"] == "snnconvert.plan/1"
    assert plan["model"] == model
    names = [layer["name"] for layer in plan["layers"]]
    assert len(names) == len(set(names))
    assert len(names) == synapses
    for name in layers:
        assert name in names
        assert f"\n{name} " in outcome.out
    operators = {item["op"] for item in plan["analog"]}
    assert set(analog) <= operators
    for item in plan["analog"]:
        assert item["reason"]
    on_spikes = sum(layer["macs"] for layer in plan["layers"])
    analog_macs = sum(item["macs"] for item in plan["analog"])
    assert plan["totals"]["macs"] == on_spikes + analog_macs
    assert plan["coverage"]["macs_on_spikes"] == pytest.approx(on_spikes / plan["totals"]["macs"])


def test_dry_run_leaves_a_full_output_folder_alone(cli, folder):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("years of work")
    assert cli("digits", "--dry-run", "-o", "out").code == 0
    assert (folder / "out" / "thesis.txt").read_text() == "years of work"


def test_dry_run_quietly_prints_one_line(cli):
    outcome = cli("digits", "--dry-run", "--quiet")
    assert len(outcome.out.splitlines()) == 1
    assert outcome.last_line["schema"] == "snnconvert.plan/1"


def test_dry_run_plans_what_a_conversion_then_does(cli):
    plan = cli("digits", "--dry-run", "--bits", "1", "--weight-bits", "4").last_line
    report = cli("digits", "--bits", "1", "--weight-bits", "4", "--eval-images", "10", "-o", "out").last_line
    assert plan["totals"]["bit_budget"] == report["totals"]["bit_budget"]
    assert plan["totals"]["macs"] == report["totals"]["macs"]
    assert plan["coverage"] == report["coverage"]


def test_dry_run_checks_data_that_is_given(cli, folder):
    assert_one_error(cli("digits", "--dry-run", "--data", "absent"), "absent")
    write_archive(folder.parent / "digits.npz")
    assert cli("digits", "--dry-run", "--data", folder.parent / "digits.npz").code == 0


def test_image_size_and_classes_change_the_plan(cli):
    def totals(*options):
        plan = cli("test_resnet", "--random-weights", "--dry-run", *options).last_line
        return {layer["name"]: layer["macs"] for layer in plan["layers"]}

    usual, changed = totals(), totals("--image-size", "80", "--num-classes", "10")
    assert usual["fc"] == 100 * changed["fc"]
    assert usual["conv1.0"] == 4 * changed["conv1.0"]


def test_a_plan_needs_no_weights(cli, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a dry run must not look for weights")

    monkeypatch.setattr("snnconvert.models.source.build_pretrained", refuse)
    outcome = cli("test_resnet", "--dry-run")
    assert outcome.code == 0
    assert "no weights loaded" in outcome.out
