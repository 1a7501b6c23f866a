import contextlib
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx_graphs import model_of, value, write

from snnconvert.errors import SnnConvertError
from snnconvert.models.onnx import load_onnx

SECONDS = 30.0  # what is refused early takes a fraction of one, what isn't takes minutes
node = helper.make_node
BIG = np.array([1 << 20, 1 << 20], dtype=np.int64)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Torch imports parts of itself on first use, which takes a second once."""
    load_onnx(write(sound_model(), tmp_path_factory.mktemp("warm")))


def refusal(path: Path) -> str:
    """The message; in time, on one line, naming the file."""
    start = time.perf_counter()
    with pytest.raises(SnnConvertError) as error:
        load_onnx(path)
    assert time.perf_counter() - start < SECONDS
    message = str(error.value)
    assert "\n" not in message
    assert path.name in message
    return message


def tensor(dims: list[int], kind: int = TensorProto.FLOAT, raw: bytes = b"", name: str = "w") -> TensorProto:
    return TensorProto(dims=dims, data_type=kind, raw_data=raw, name=name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, world", "not an ONNX model"),
        (b"\x08", "not an ONNX model"),
        (b"\x08\x07", "no ONNX graph"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, words):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert words in refusal(path)


def test_truncated_file_is_refused(tmp_path):
    model = model_of([node("Add", ["x", "w"], ["y"])], {"w": np.ones((3, 8, 8), np.float32)})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString()[:-200])
    refusal(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "nowhere.onnx")
    (tmp_path / "folder.onnx").mkdir()
    refusal(tmp_path / "folder.onnx")


def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "weights.bin")
    assert "regular file" in refusal(external_file(tmp_path, "weights.bin"))


def external_file(folder: Path, location: str, **entries: int | str) -> Path:
    weights = tensor([4])
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(text))
    return write(model_of([node("Add", ["x", "w"], ["y"])], {"w": weights}, shape=[1, 4]), folder)


@pytest.fixture
def secret(tmp_path):
    """A file outside the model's folder."""
    path = tmp_path / "secret.bin"
    path.write_bytes(bytes(64))
    (tmp_path / "model").mkdir()
    return path


def test_external_data_outside_the_folder_is_refused(secret):
    folder = secret.parent / "model"
    for location in (str(secret), "../secret.bin", "a/../../secret.bin", "..\\secret.bin", "C:\\secret.bin", ""):
        assert "not inside the model's own folder" in refusal(external_file(folder, location))


def test_links_to_external_data_are_refused(secret):
    folder = secret.parent / "model"
    (folder / "soft.bin").symlink_to(secret)
    (folder / "hard.bin").hardlink_to(secret)
    (folder / "inner").symlink_to(secret.parent)
    assert "symbolic link" in refusal(external_file(folder, "soft.bin"))
    assert "hard links" in refusal(external_file(folder, "hard.bin"))
    assert "symbolic link" in refusal(external_file(folder, "inner/secret.bin"))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 60}, "bytes 60 to 76"),
        ({"offset": -1}, "no byte count"),
        ({"offset": "9" * 30}, "no byte count"),
        ({"length": 1 << 40}, "its shape takes 16"),
        ({"length": 8}, "its shape takes 16"),
    ],
)
def test_regions_that_do_not_fit_are_refused(tmp_path, entries, words):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    assert words in refusal(external_file(tmp_path, "weights.bin", **entries))


def test_missing_external_data_is_refused(tmp_path):
    assert "can't be read" in refusal(external_file(tmp_path, "weights.bin"))


def test_overlapping_regions_give_no_more_than_the_file_has(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    weights = {}
    for index in range(8):
        weights[f"w{index}"] = tensor([8], name=f"w{index}")
        weights[f"w{index}"].ClearField("raw_data")
        weights[f"w{index}"].data_location = TensorProto.EXTERNAL
        for key, text in {"location": "weights.bin", "offset": str(index)}.items():
            weights[f"w{index}"].external_data.add(key=key, value=text)
    path = write(model_of([node("Sum", ["x", *weights], ["y"])], weights, shape=[1, 8]), tmp_path)
    assert "which has 64" in refusal(path)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (tensor([-1, 4], raw=bytes(16)), "negative"),
        (tensor([1 << 62, 1 << 62], raw=bytes(16)), "holds 16"),
        (tensor([1 << 30], raw=bytes(16)), "holds 16"),
        (tensor([4], raw=bytes(15)), "holds 15"),
        (tensor([4]), "holds 0"),
        (tensor([4], TensorProto.STRING, bytes(16)), "STRING"),
        (tensor([4], TensorProto.COMPLEX64, bytes(32)), "COMPLEX64"),
        (tensor([4], 999, bytes(16)), "type 999"),
        (TensorProto(dims=[3], data_type=TensorProto.FLOAT, float_data=[1.0, 2.0], name="w"), "holds 2"),
    ],
)
def test_contradictory_weights_are_refused(tmp_path, weights, words):
    message = refusal(write(model_of([node("Add", ["x", "w"], ["y"])], {"w": weights}), tmp_path))
    assert words in message
    assert "'w'" in message


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])], "cycle"),
        ([node("Add", ["x", "ghost"], ["y"])], "'ghost', which nothing computes"),
        ([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])], "defined twice"),
        ([node("Relu", ["x"], ["x"])], "defined twice"),
        ([node("Relu", ["x"], ["z"])], "the output 'y' is computed by nothing"),
        ([node("Conv", ["x"], ["y"])], "input 1 is missing"),
        ([node("Relu", [], ["y"])], "input 0 is missing"),
        ([node("Conv", ["x", ""], ["y"])], "input 1 is missing"),
    ],
)
def test_graphs_that_break_the_rules_are_refused(tmp_path, nodes, words):
    assert words in refusal(write(model_of(nodes), tmp_path))


def test_nodes_out_of_order_are_sorted(tmp_path):
    path = write(model_of([node("Relu", ["a"], ["y"]), node("Abs", ["x"], ["a"])]), tmp_path)
    assert load_onnx(path).outputs == ("y",)


@pytest.mark.parametrize("shape", [[1, -3, 8, 8], [1, 1 << 40, 8, 8], [1, 1 << 19, 1 << 19, 8]])
def test_impossible_inputs_are_refused(tmp_path, shape):
    assert "'x' declares" in refusal(write(model_of([node("Relu", ["x"], ["y"])], shape=shape), tmp_path))


def test_inputs_without_type_or_twice_are_refused(tmp_path):
    refusal(write(model_of([node("Relu", ["x"], ["y"])], inputs=[value("x", [1], 0)]), tmp_path))
    refusal(write(model_of([node("Relu", ["x"], ["y"])], inputs=[value("x", [1]), value("x", [1])]), tmp_path))


BOMBS = {
    "ConstantOfShape": ([node("ConstantOfShape", ["s"], ["c"])], {"s": BIG}),
    "Expand": ([node("Expand", ["one", "s"], ["c"])], {"one": np.ones(1, np.float32), "s": BIG}),
    "Tile": ([node("Tile", ["one", "s"], ["c"])], {"one": np.ones((1, 1), np.float32), "s": BIG}),
    "Range": (
        [node("Range", ["zero", "s", "one"], ["c"])],
        {"zero": np.int64(0), "s": np.int64(1 << 40), "one": np.int64(1)},
    ),
    "Pad": ([node("Pad", ["one", "s"], ["c"])], {"one": np.ones(1, np.float32), "s": BIG << 20}),
    "OneHot": (
        [node("OneHot", ["one", "s", "v"], ["c"])],
        {"one": np.ones(1024, np.int64), "s": np.int64(1 << 40), "v": np.array([0.0, 1.0], np.float32)},
    ),
    "Add": (
        [node("Add", ["a", "b"], ["c"])],
        {"a": np.ones((1 << 16, 1), np.float32), "b": np.ones((1, 1 << 16), np.float32)},
    ),
    "MatMul": (
        [node("ConstantOfShape", ["s"], ["a"]), node("MatMul", ["a", "a"], ["c"])],
        {"s": np.array([1 << 13, 1 << 13])},
    ),
    "Resize": (
        [node("Resize", ["a", "", "s"], ["c"])],
        {"a": np.ones((1, 1, 4, 4), np.float32), "s": np.array([1, 1, 99999, 99999], np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_constants_that_explode_are_refused(tmp_path, name):
    nodes, constants = BOMBS[name]
    assert name in refusal(write(model_of([*nodes, node("Add", ["x", "c"], ["y"])], constants), tmp_path))


def test_repeated_doubling_is_refused(tmp_path):
    nodes = [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(40)]
    constants = {"c0": np.ones(1024, np.float32)}
    assert "Concat" in refusal(write(model_of([*nodes, node("Add", ["x", "c40"], ["y"])], constants), tmp_path))


def test_values_that_explode_at_run_time_are_refused(tmp_path):
    nodes = [node("Unsqueeze", ["x", "axes"], ["u"]), node("Expand", ["u", "s"], ["y"])]
    constants = {"axes": np.array([4]), "s": np.array([1, 1, 1, 1, 1 << 40])}
    assert "Expand" in refusal(write(model_of(nodes, constants), tmp_path))


def function(name: str, nodes: list) -> object:
    return helper.make_function(
        "own", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )


def test_exponential_functions_are_refused(tmp_path):
    functions = [function("f0", [node("Relu", ["a"], ["b"])])]
    for index in range(1, 14):
        calls = [node(f"f{index - 1}", ["a" if i == 0 else f"t{i}"], [f"t{i + 1}"], domain="own") for i in range(9)]
        functions.append(function(f"f{index}", [*calls, node(f"f{index - 1}", ["t9"], ["b"], domain="own")]))
    model = model_of([node("f13", ["x"], ["y"], domain="own")], functions=functions)
    assert "more than 100000 nodes" in refusal(write(model, tmp_path))


def test_endless_and_deep_functions_are_refused(tmp_path):
    endless = model_of(
        [node("f", ["x"], ["y"], domain="own")], functions=[function("f", [node("f", ["a"], ["b"], domain="own")])]
    )
    assert "calls itself" in refusal(write(endless, tmp_path))
    chain = [function("f0", [node("Relu", ["a"], ["b"])])]
    chain += [function(f"f{i}", [node(f"f{i - 1}", ["a"], ["b"], domain="own")]) for i in range(1, 40)]
    assert "deep" in refusal(write(model_of([node("f39", ["x"], ["y"], domain="own")], functions=chain), tmp_path))


def test_deep_branches_are_refused(tmp_path):
    inner = helper.make_graph([node("Relu", ["x"], ["b"])], "g", [], [value("b", None)])
    for _ in range(20):
        branch = node("If", ["c"], ["b"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [value("b", None)])
        if len(inner.SerializeToString()) > 1 << 18:
            break
    model = model_of([node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], {"c": np.array(True)})
    path = write(model, tmp_path)
    start = time.perf_counter()
    load_onnx(path)
    assert time.perf_counter() - start < SECONDS


def test_all_unsupported_operators_are_named_at_once(tmp_path):
    nodes = [
        node("NonMaxSuppression", ["x", "x"], ["a"], name="nms"),
        node("Bernoulli", ["x"], ["b"], name="dice"),
        node("Special", ["x"], ["y"], name="mine", domain="own"),
    ]
    message = refusal(write(model_of(nodes), tmp_path))
    for words in (
        "3 operators",
        "NonMaxSuppression ('nms'",
        "Bernoulli ('dice'",
        "own.Special ('mine'",
        "post-processing",
    ):
        assert words in message


def test_old_and_new_opsets(tmp_path):
    assert "opset 5" in refusal(write(model_of([node("Relu", ["x"], ["y"])], opset=5), tmp_path))
    assert load_onnx(write(model_of([node("Relu", ["x"], ["y"])], opset=99), tmp_path)).opset == 99
    message = refusal(write(model_of([node("Novelty", ["x"], ["y"])], opset=99), tmp_path))
    assert "opset 99 is newer" in message


@pytest.mark.parametrize(
    "bad",
    [
        node("Conv", ["x", "w"], ["y"], name="bad", group=0),
        node("Conv", ["x", "w"], ["y"], name="bad", strides=[0, 1]),
        node("Conv", ["x", "w"], ["y"], name="bad", strides=[1]),
        node("Conv", ["x", "w"], ["y"], name="bad", pads=[1 << 40, 0, 0, 0]),
        node("Conv", ["x", "w"], ["y"], name="bad", kernel_shape="x"),
        node("MaxPool", ["x"], ["y"], name="bad"),
        node("MaxPool", ["x"], ["y"], name="bad", kernel_shape=[1 << 40, 2]),
        node("Reshape", ["x", "shape"], ["y"], name="bad"),
        node("Transpose", ["x"], ["y"], name="bad", perm=[0, 0, 1, 2]),
        node("Concat", ["x", "w"], ["y"], name="bad", axis=9),
        node("Split", ["x", "shape"], ["y"], name="bad", axis=1),
        node("Slice", ["x", "shape", "shape", "shape", "zeros"], ["y"], name="bad"),
        node("Gather", ["x", "shape"], ["y"], name="bad", axis=9),
        node("Softmax", ["x"], ["y"], name="bad", axis=7),
        node("DepthToSpace", ["x"], ["y"], name="bad", blocksize=0),
        node("Resize", ["x", "", "scales"], ["y"], name="bad"),
        node("Cast", ["x"], ["y"], name="bad", to=77),
        node("If", ["x"], ["y"], name="bad"),
    ],
    ids=lambda item: item.op_type,
)
def test_nodes_that_cannot_run_are_named(tmp_path, bad):
    constants = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "shape": np.array([7, 7], np.int64),
        "zeros": np.array([0, 0], np.int64),
        "scales": np.array([1, 1, 1e9, 1e9], np.float32),
    }
    assert f"{bad.op_type} 'bad'" in refusal(write(model_of([bad], constants), tmp_path))


def sound_model() -> ModelProto:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.array([1, -1]), "v": np.ones((144, 2), np.float32)}
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="conv"),
        node("Relu", ["a"], ["b"]),
        node("Reshape", ["b", "s"], ["c"]),
        node("MatMul", ["c", "v"], ["y"]),
    ]
    return model_of(nodes, weights)


@pytest.mark.parametrize("mutate", ["flip", "cut", "repeat"])
def test_damaged_bytes_never_do_anything_else(tmp_path, mutate):
    content = sound_model().SerializeToString()
    generator = random.Random(0)
    path = tmp_path / "net.onnx"
    for _ in range(60):
        path.write_bytes(_damaged(content, generator, mutate))
        start = time.perf_counter()
        with contextlib.suppress(SnnConvertError):
            load_onnx(path)
        assert time.perf_counter() - start < SECONDS


def _damaged(content: bytes, generator: random.Random, mutate: str) -> bytes:
    place = generator.randrange(len(content))
    if mutate == "cut":
        return content[:place]
    if mutate == "repeat":
        return content[:place] + content[place : place + 40] + content[place:]
    damaged = bytearray(content)
    # Structure lies outside the weights, which take most of the bytes.
    places = [index for index, byte in enumerate(content) if byte not in (0, 128, 63)]
    for _ in range(3):
        damaged[generator.choice(places)] = generator.randrange(256)
    return bytes(damaged)
