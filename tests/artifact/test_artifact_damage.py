import contextlib
import json

import pytest
import torch
from artifact_networks import FILES, TENSORS, cases, edit_json, repair_checksums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import snnconvert
from snnconvert.errors import ArtifactError


def refusal(folder):
    """The message of the refusal to load: one line."""
    with pytest.raises(ArtifactError) as caught:
        snnconvert.load(folder)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_file_is_named(saved, name, kept):
    path = saved[2] / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert str(path) in refusal(saved[2])


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(saved, name):
    (saved[2] / name).unlink()
    assert str(saved[2] / name) in refusal(saved[2])


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_named(saved, name):
    (saved[2] / name).unlink()
    (saved[2] / name).mkdir()
    assert str(saved[2] / name) in refusal(saved[2])


@pytest.mark.parametrize("name", FILES[1:])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_is_found_and_the_file_named(saved, name, position, flip):
    path = saved[2] / name
    data = path.read_bytes()
    changed = bytearray(data)
    changed[int(position * len(data))] ^= flip
    path.write_bytes(bytes(changed))
    try:
        assert str(path) in refusal(saved[2])
    finally:
        path.write_bytes(data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_of_the_settings_raises_nothing_else(saved, position, flip):
    path = saved[2] / "config.json"
    data = path.read_bytes()
    changed = bytearray(data)
    changed[int(position * len(data))] ^= flip
    path.write_bytes(bytes(changed))
    try:
        with contextlib.suppress(ArtifactError):
            snnconvert.load(saved[2])
    finally:
        path.write_bytes(data)


def test_a_changed_setting_is_found(saved):
    path = saved[2] / "config.json"
    text = path.read_text()
    assert text.count('"seed":0') == 1
    path.write_text(text.replace('"seed":0', '"seed":4'))
    assert str(path) in refusal(saved[2])


def test_a_changed_input_shape_is_found(saved):
    path = saved[2] / "config.json"
    config = json.loads(path.read_text())
    config["signature"]["tensors"][0]["shape"] = [3, 12, 13]
    path.write_text(json.dumps(config))
    assert str(path) in refusal(saved[2])


@pytest.mark.parametrize("name", ["config.json", "graph.json", "report.json"])
@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "", "{", "nonsense", "\ufeff{}"])
def test_json_that_is_no_object_is_named(saved, name, text):
    path = saved[2] / name
    path.write_text(text, encoding="utf-8")
    if name != "config.json":
        repair_checksums(saved[2])
    assert str(path) in refusal(saved[2])


@pytest.mark.parametrize("name", ["config.json", "graph.json", "report.json"])
def test_json_nested_without_end_is_named(saved, name):
    (saved[2] / name).write_text("[" * 200_000)
    if name != "config.json":
        repair_checksums(saved[2])
    assert str(saved[2] / name) in refusal(saved[2])


@pytest.mark.parametrize("name", ["config.json", "graph.json", "report.json"])
def test_bytes_that_are_no_text_are_named(saved, name):
    (saved[2] / name).write_bytes(b'{"version": "\xff\xfe"}')
    if name != "config.json":
        repair_checksums(saved[2])
    assert str(saved[2] / name) in refusal(saved[2])


@pytest.mark.parametrize("version", [0, 1, 5, "2", None, [1], 1.5])
def test_another_version_is_named(saved, version):
    path = saved[2] / "config.json"
    config = json.loads(path.read_text())
    config["version"] = version
    path.write_text(json.dumps(config))
    message = refusal(saved[2])
    assert str(path) in message
    assert "version" in message


def test_another_report_schema_is_refused(saved):
    edit_json(saved[2], "report.json", lambda data: data.update(schema="snnconvert.report/99"))
    assert "snnconvert.report/99" in refusal(saved[2])


WRONG_SETTINGS = {
    "no plan": lambda c: c.pop("plan"),
    "plan is a list": lambda c: c.update(plan=[]),
    "plan with an unknown field": lambda c: c["plan"]["sites"][0].update(colour="red"),
    "plan without sites": lambda c: c["plan"].pop("sites"),
    "sites are numbers": lambda c: c["plan"].update(sites=[1, 2]),
    "no conversion": lambda c: c.pop("conversion"),
    "conversion is a list": lambda c: c.update(conversion=[]),
    "conversion is a string": lambda c: c.update(conversion="x"),
    "bits out of range": lambda c: c["conversion"].update(bits=9),
    "unknown setting": lambda c: c["conversion"].update(speed=9),
    "overrides are a list": lambda c: c["conversion"].update(overrides=[1]),
    "override is a number": lambda c: c["conversion"].update(overrides={"head": 3}),
    "no checksums": lambda c: c.pop("sha256"),
    "checksums are a list": lambda c: c.update(sha256=[]),
    "a checksum is missing": lambda c: c["sha256"].pop("graph.json"),
    "checksum of nothing": lambda c: c["sha256"].update({"graph.json": None}),
    "no signature": lambda c: c.pop("signature"),
    "no inputs": lambda c: c["signature"].update(tensors=[]),
    "input shape is a number": lambda c: c["signature"]["tensors"][0].update(shape=3),
    "input shape of words": lambda c: c["signature"]["tensors"][0].update(shape=["a", "b"]),
    "input shape of negative sizes": lambda c: c["signature"]["tensors"][0].update(shape=[-1], traced=[-1]),
    "input of an unknown type": lambda c: c["signature"]["tensors"][0].update(dtype="load"),
    "a call that is a list": lambda c: c["signature"].update(call=[]),
    "a result of an unknown kind": lambda c: c["signature"].update(result={"kind": "pickle"}),
    "a result of two tensors": lambda c: c["signature"].update(
        result={"kind": "list", "children": [{"kind": "tensor"}, {"kind": "tensor"}]}
    ),
    "output type is unknown": lambda c: c.update(output_dtype="float99"),
    "output type is a function": lambda c: c.update(output_dtype="load"),
    "output type is a number": lambda c: c.update(output_dtype=32),
    "output type is an integer type": lambda c: c.update(output_dtype="int8"),
}


@pytest.mark.parametrize(
    "change",
    cases(WRONG_SETTINGS),
)
def test_wrong_settings_are_refused(saved, change):
    path = saved[2] / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    assert str(saved[2]) in refusal(saved[2])


def test_an_empty_folder_and_no_folder_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")
    assert "config.json" in refusal(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "config.json" in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, b"\x10\0\0\0\0\0\0\0" + b"{" * 16], ids=["empty", "long header", "no JSON"]
)
def test_tensors_with_a_fitting_checksum_that_are_none(saved, data):
    (saved[2] / TENSORS).write_bytes(data)
    repair_checksums(saved[2])
    assert TENSORS in refusal(saved[2])


@pytest.mark.parametrize("kind", ["missing", "shape", "dtype"])
def test_wrong_tensors_with_a_fitting_checksum(saved, kind):
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved[2] / TENSORS)
    if kind == "missing":
        del tensors["synapse_conv2.weight"]
    elif kind == "shape":
        tensors["synapse_conv2.bias"] = tensors["synapse_conv2.bias"][:-1].clone()
    else:
        tensors["synapse_conv2.weight"] = torch.full(tensors["synapse_conv2.weight"].shape, 0.5)
    save_file(tensors, saved[2] / TENSORS)
    repair_checksums(saved[2])
    assert "synapse_conv2" in refusal(saved[2])
