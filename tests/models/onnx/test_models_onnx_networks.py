import itertools
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from onnx_graphs import largest_difference, model_of, outputs_of, reference_outputs, value, write
from slow_cases import mostly_slow
from torch import Tensor, nn
from torch.nn import functional as F

import snnconvert
from snnconvert.convert.capture import capture
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
TOLERANCE = 1e-5
node = helper.make_node
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(x)
        return self.fc(self.pool(F.relu6(x + self.conv(x))).flatten(1))


class Attention(nn.Module):
    """A transformer block with a class token, whose shapes follow from the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        return self.head(F.gelu(x + mixed)[:, 0])


class Upsampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        small = F.hardswish(self.down(x))
        large = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
        nearest = F.interpolate(small, size=x.shape[2:], mode="nearest")
        return torch.cat([self.up(small), large, F.pad(nearest, (1, 1, 2, 0), mode="reflect")[:, :, 2:, 1:-1]], 1)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.pixel_unshuffle(x[:, :1], 2).chunk(2, 1)
        y = self.conv(torch.cat([right, left], 1))
        n, c, h, w = y.shape
        shuffled = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return shuffled.view(n, c, h * w).mean(2).softmax(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x.mean(1))[0])[0][:, -1]


NETWORKS: dict[str, type[nn.Module]] = {
    "residual": Residual, "attention": Attention, "upsampling": Upsampling, "shuffle": Shuffle, "recurrent": Recurrent,
}  # fmt: skip


def exported(module: nn.Module, folder: Path, *, dynamo: bool, dynamic: bool, batch: int = 1) -> Path:
    path = folder / "net.onnx"
    more = {}
    if dynamic:
        more = {"dynamic_shapes": ({0: "n"},)} if dynamo else {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.rand(batch, 3, 8, 8),),
            path,
            dynamo=dynamo,
            external_data=False,
            verbose=False,
            **more,
        )
    return path


def images(count: int, shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def by_sample(path: Path, x: Tensor, declared: int) -> Tensor:
    """What onnxruntime gives for each declared batch of the samples."""
    return torch.cat([reference_outputs(path, part)[0] for part in x.split(declared)])


def assert_same(
    path: Path, declared: int = 1, shape: tuple[int, ...] = (3, 8, 8), tolerance: float = TOLERANCE
) -> None:
    """Equal to onnxruntime at the declared batch, at two others sample by sample, and captured."""
    module = load_onnx(path).module
    for batches in (1, 2, 3):
        x = images(batches * declared, shape, seed=batches)
        with torch.no_grad():
            assert largest_difference(module(x), by_sample(path, x, declared)) <= tolerance
    graph = capture(module, images(2, shape))
    x = images(3 * declared, shape, seed=7)
    assert largest_difference(graph(x), by_sample(path, x, declared)) <= tolerance


EXPORTS = [
    pytest.param(
        dynamo, dynamic, name, id=f"{'dynamo' if dynamo else 'torchscript'}-{'dynamic' if dynamic else 'fixed'}-{name}"
    )
    for dynamo, dynamic, name in itertools.product([False, True], [False, True], NETWORKS)
]
QUICK = [
    *((False, True, name) for name in NETWORKS),
    (False, False, "residual"),
    (True, False, "shuffle"),
    (True, True, "residual"),
]


@pytest.mark.parametrize(("dynamo", "dynamic", "name"), mostly_slow(EXPORTS, keep=QUICK))
def test_exports_of_pytorch(tmp_path, name, dynamo, dynamic):
    torch.manual_seed(0)
    batch = 2 if dynamic else 1
    path = exported(NETWORKS[name](), tmp_path, dynamo=dynamo, dynamic=dynamic, batch=batch)
    assert_same(path)


@pytest.mark.parametrize("name", mostly_slow(["residual", "shuffle"], keep=["residual"]))
def test_fixed_batches_above_one(tmp_path, name):
    torch.manual_seed(0)
    assert_same(exported(NETWORKS[name](), tmp_path, dynamo=False, dynamic=False, batch=2), declared=2)


def names_of(path: Path) -> set[str]:
    return {name for name, module in load_onnx(path).module.named_modules() if type(module).__name__ == "OnnxLayer"}


@pytest.mark.parametrize("dynamo", mostly_slow([False, True], keep=[False]), ids=["torchscript", "dynamo"])
def test_layers_keep_their_names(tmp_path, dynamo):
    torch.manual_seed(0)
    path = exported(Residual(), tmp_path, dynamo=dynamo, dynamic=False)
    assert {"fc", "conv", "pool"} <= names_of(path)
    graph = capture(load_onnx(path).module, images(2))
    stacks = [
        node.meta["nn_module_stack"] for node in graph.graph.nodes if node.target is torch.ops.aten.linear.default
    ]
    assert [list(stack.values())[-1][0] for stack in stacks] == ["fc"]
    assert {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"} >= {"fc.weight", "fc.bias"}


def test_float16_weights(tmp_path):
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    nodes = [
        node("Cast", ["w"], ["w32"], to=1), node("Conv", ["x", "w32"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", ["a"], ["b"]), node("GlobalAveragePool", ["b"], ["c"]), node("Flatten", ["c"], ["y"]),
    ]  # fmt: skip
    assert_same(write(model_of(nodes, {"w": weights}), tmp_path))


def test_float16_network_is_computed_in_float32(tmp_path):
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, [1, 3, 8, 8])]
    graph = helper.make_graph(
        [node("Conv", ["x", "w"], ["y"])], "g", inputs,
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, None)], [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    path = write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path)
    loaded, x = load_onnx(path), images(1)
    assert loaded.inputs[0].dtype is torch.float32
    assert all(tensor.dtype is torch.float32 for tensor in loaded.module.parameters())
    assert largest_difference(loaded.module(x), reference_outputs(path, x.half())[0]) < 2e-3


def test_external_data(tmp_path):
    torch.manual_seed(0)
    inside = exported(Residual(), tmp_path, dynamo=False, dynamic=False)
    model = onnx.load(inside)
    outside = tmp_path / "outside.onnx"
    onnx.save_model(model, outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert outside.stat().st_size < inside.stat().st_size
    assert_same(outside)


def test_shared_weights_stay_shared(tmp_path):
    weights = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    dense = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="one"), node("Conv", ["a", "w"], ["b"], name="two"),
        node("MatMul", ["b", "d"], ["c"], name="three"), node("MatMul", ["c", "d"], ["y"], name="four"),
    ]  # fmt: skip
    path = write(model_of(nodes, {"w": weights, "d": dense}), tmp_path)
    module = load_onnx(path).module
    assert module.get_parameter("one.weight") is module.get_parameter("two.weight")
    assert module.get_parameter("three.weight") is module.get_parameter("four.weight")
    assert_same(path)


def old_graph(opset: int) -> ModelProto:
    """As exporters of 2018 wrote it: axes, scales and limits as attributes, inputs for all weights."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.normal(size=(8, 3, 3, 3)), "b": generator.normal(size=8), "g": generator.normal(size=8),
        "m": generator.normal(size=8), "v": generator.uniform(0.5, 2, size=8), "d": generator.normal(size=(5, 32)),
        "e": generator.normal(size=5),
    }  # fmt: skip
    more = {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 0, 0], strides=[2, 2]),
        node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        node("Clip", ["n"], ["r"], min=0.0, max=6.0), node("Upsample", ["r"], ["u"], **more),
        node("Slice", ["u"], ["s"], axes=[2, 3], starts=[1, 1], ends=[9, -1]),
        node("Pad", ["s"], ["q"], pads=[0, 0, 1, 0, 0, 0, 0, 2], value=0.5),
        node("AveragePool", ["q"], ["a"], kernel_shape=[3, 3], strides=[3, 3], pads=[0, 0, 1, 1]),
        node("LRN", ["a"], ["l"], size=3), node("ReduceMean", ["l"], ["t"], axes=[3], keepdims=1),
        node("Squeeze", ["t"], ["z"], axes=[3]), node("Unsqueeze", ["z"], ["k"], axes=[2]),
        node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, -1]), "c")),
        node("Reshape", ["k", "shape"], ["f"]), node("Slice", ["f"], ["h"], axes=[1], starts=[0], ends=[16]),
        node("Concat", ["h", "h"], ["j"], axis=1), node("Dropout", ["j"], ["o"], ratio=0.5),
        node("Gemm", ["o", "d", "e"], ["p"], transB=1, alpha=0.5, beta=2.0), node("Softmax", ["p"], ["y"]),
    ]  # fmt: skip
    model = model_of(nodes, {name: array.astype(np.float32) for name, array in constants.items()}, opset=opset)
    for item in list(model.graph.initializer):
        model.graph.input.append(helper.make_tensor_value_info(item.name, 1, list(item.dims)))
    return model


@pytest.mark.parametrize("opset", mostly_slow([7, 8], keep=[8]))
def test_old_opsets(tmp_path, opset):
    assert_same(write(old_graph(opset), tmp_path))


def test_channels_last_network_of_tensorflow(tmp_path):
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(4, 3, 3, 3)),
        "d": generator.normal(size=(4, 5)),
        "b": generator.normal(size=4),
    }
    nodes = [
        node("Transpose", ["x"], ["n"], perm=[0, 3, 1, 2]),
        node("Conv", ["n", "w"], ["c"], auto_pad="SAME_LOWER", strides=[2, 2]),
        node("Transpose", ["c"], ["l"], perm=[0, 2, 3, 1]), node("Add", ["l", "b"], ["p"]), node("Relu", ["p"], ["r"]),
        node("ReduceMean", ["r"], ["m"], axes=[1, 2], keepdims=0), node("Shape", ["m"], ["s"]),
        node("Slice", ["s", "zero", "one", "zero"], ["n0"]), node("Concat", ["n0", "rest"], ["t"], axis=0),
        node("Reshape", ["m", "t"], ["f"]), node("MatMul", ["f", "d"], ["y"]),
    ]  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    constants |= {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([4])}
    path = write(model_of(nodes, constants, shape=[None, 8, 8, 3], opset=12), tmp_path)
    assert_same(path, shape=(8, 8, 3))


def test_network_of_paddle(tmp_path):
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(4, 3, 1, 1)),
        "k": np.array([0.25]),
        "b": generator.normal(size=(1, 4, 1, 1)),
    }
    nodes = [
        node("Mul", ["x", "k"], ["s"]), node("Conv", ["s", "w"], ["c"]), node("Add", ["c", "b"], ["a"]),
        node("HardSigmoid", ["a"], ["g"], alpha=1 / 6, beta=0.5), node("Mul", ["a", "g"], ["h"]),
        node("GlobalAveragePool", ["h"], ["p"]), node("HardSigmoid", ["p"], ["q"], alpha=0.2, beta=0.5),
        node("Mul", ["h", "q"], ["e"]), node("Reshape", ["e", "t"], ["y"]),
    ]  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in weights.items()} | {"t": np.array([0, 4, -1])}
    assert_same(write(model_of(nodes, constants, shape=[-1, 3, 8, 8]), tmp_path))


def test_local_functions_are_inlined(tmp_path):
    scaled = helper.make_function(
        "own", "Scaled", ["a"], ["b"],
        [node("Elu", ["a"], ["t"]), node("Scale", ["t"], ["b"], domain="own")],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    scaled.node[0].attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    scaled.attribute.append("alpha")
    scale = helper.make_function(
        "own", "Scale", ["a"], ["b"],
        [node("Constant", [], ["c"], value_float=2.0), node("Mul", ["a", "c"], ["b"])], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        node("Scaled", ["x"], ["h"], domain="own", alpha=0.3, name="f"),
        node("Scaled", ["h"], ["y"], domain="own", alpha=0.7),
    ]
    path = write(model_of(nodes, functions=[scale, scaled]), tmp_path)
    assert_same(path)


def test_decided_branches_are_taken(tmp_path):
    then = helper.make_graph([node("Relu", ["x"], ["a"])], "t", [], [helper.make_tensor_value_info("a", 1, None)])
    other = helper.make_graph([node("Neg", ["x"], ["a"])], "e", [], [helper.make_tensor_value_info("a", 1, None)])
    for condition, expected in ((True, torch.relu), (False, torch.neg)):
        branch = node("If", ["c"], ["y"], then_branch=then, else_branch=other)
        path = write(model_of([branch], {"c": np.array(condition)}), tmp_path)
        x = images(2) - 0.5
        assert torch.equal(outputs_of(path, x)[0], expected(x))


class Squeezed(nn.Module):
    """An export with open sizes asks at run time whether a dimension is one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).squeeze(1) * 2


def test_branches_that_follow_from_shapes_are_taken(tmp_path):
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n", 1: "c"}}
        torch.onnx.export(
            Squeezed(),
            (torch.rand(2, 3, 8, 8),),
            path,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=13,
        )
    assert_same(path)
    one = helper.make_graph(
        [node("Squeeze", ["x", "axes"], ["a"])], "t", [], [helper.make_tensor_value_info("a", 1, None)]
    )
    more = helper.make_graph([node("Identity", ["x"], ["a"])], "e", [], [helper.make_tensor_value_info("a", 1, None)])
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "axes"], ["d"]), node("Equal", ["d", "one"], ["c"]),
        node("If", ["c"], ["y"], then_branch=one, else_branch=more),
    ]  # fmt: skip
    constants = {"axes": np.array([1]), "one": np.array([1])}
    for channels in (1, 3):
        branching = write(model_of(nodes, constants, shape=["n", channels, 8, 8]), tmp_path)
        x = images(2, (channels, 8, 8))
        assert torch.equal(outputs_of(branching, x)[0], x.squeeze(1))
        assert torch.equal(capture(load_onnx(branching).module, x)(x), x.squeeze(1))


def test_several_outputs_are_named(tmp_path):
    nodes = [node("Split", ["x"], ["a", "b", "c"], axis=1), node("Relu", ["a"], ["y"]), node("Neg", ["c"], ["z"])]
    path = write(model_of(nodes, outputs=("y", "z")), tmp_path)
    loaded = load_onnx(path)
    result = loaded.module(images(1))
    assert loaded.outputs == ("y", "z") == tuple(result)
    for actual, expected in zip(result.values(), reference_outputs(path, images(1)), strict=True):
        assert torch.equal(actual, expected)


def quantized(folder: Path, *, per_channel: bool, qdq: bool) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    torch.manual_seed(0)
    path = exported(Residual(), folder, dynamo=False, dynamic=False)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            name = load_onnx(path).inputs[0].name
            self.batches = iter([{name: images(1, seed=seed).numpy()} for seed in range(4)])

        def get_next(self):
            return next(self.batches, None)

    target = folder / "quantized.onnx"
    quantize_static(
        path, target, Reader(), per_channel=per_channel, weight_type=QuantType.QInt8,
        quant_format=QuantFormat.QDQ if qdq else QuantFormat.QOperator,
    )  # fmt: skip
    return target


@pytest.mark.parametrize("per_channel", mostly_slow([False, True], keep=[True]), ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
def test_quantized_networks(tmp_path, per_channel, qdq):
    path = quantized(tmp_path, per_channel=per_channel, qdq=qdq)
    module, x = load_onnx(path).module, images(1)
    with torch.no_grad():
        # A rounding tie may fall the other way: a step of the output's own grid is about 1/255 of its range.
        assert largest_difference(module(x), reference_outputs(path, x)[0]) <= 0.02
    graph = capture(module, images(2))
    targets = [str(node.target) for node in graph.graph.nodes]
    assert sum("round" in target for target in targets) >= 3
    assert sum("conv2d" in target for target in targets) == 2


@pytest.mark.parametrize("per_channel", mostly_slow([False, True], keep=[True]), ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
def test_scales_of_quantized_networks_become_thresholds(tmp_path, per_channel, qdq):
    """The converted network has the file's own grids, and its integer weights: both round at the same places."""
    path = quantized(tmp_path, per_channel=per_channel, qdq=qdq)
    x = images(16, seed=9)
    snn = snnconvert.convert(path, x, snnconvert.ConversionConfig(bias_correction=False), progress=False)
    grids = [site.grid for site in snn.plan.sites if site.grid is not None]
    assert len(grids) >= 3
    steps = {site.layer: site.grid[0] for site in snn.plan.sites if site.grid is not None}
    for layer, neuron in snn.neurons():
        if layer in steps:
            assert float(neuron.step) == pytest.approx(steps[layer], rel=1e-6)
    expected = torch.cat([reference_outputs(path, sample)[0] for sample in x.split(1)])
    error = (snn(x) - expected).square().mean() / expected.square().mean()
    assert -10 * error.log10() > 33


def with_random_weights(model: ModelProto) -> ModelProto:
    """The light graphs of the model zoo bring ConstantOfShape nodes instead of weights."""
    generator = np.random.default_rng(0)
    shapes = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    kept = []
    for item in model.graph.node:
        if item.op_type != "ConstantOfShape":
            kept.append(item)
            continue
        size = shapes[item.input[0]]
        scale = 1 / np.sqrt(max(np.prod(size[1:]), 1)) if len(size) > 1 else 0.1
        values = generator.normal(size=size, scale=scale) if len(size) > 1 else generator.uniform(0.5, 1.5, size=size)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), item.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "inception_v2", "densenet121")]


@pytest.mark.parametrize("name", ["squeezenet", pytest.param("shufflenet", marks=pytest.mark.slow), *SLOW])
def test_light_networks_of_the_model_zoo(tmp_path, name):
    path = write(with_random_weights(onnx.load(LIGHT / f"light_{name}.onnx")), tmp_path)
    module, x = load_onnx(path).module, images(2, (3, 224, 224))
    with torch.no_grad():
        assert largest_difference(module(x), by_sample(path, x, 1)) <= TOLERANCE
    graph = capture(module, x)
    assert largest_difference(graph(x), by_sample(path, x, 1)) <= TOLERANCE


@pytest.mark.parametrize(
    "path",
    mostly_slow(
        sorted(LIGHT.glob("light_*.onnx")),
        keep=[LIGHT / f"light_{name}.onnx" for name in ("shufflenet", "inception_v1")],
    ),
    ids=lambda path: path.stem,
)
def test_light_graphs_load_as_they_are(path):
    loaded = load_onnx(path)
    assert loaded.inputs[0].shape == (1, 3, 224, 224)


SPIKING = [
    pytest.param(path, marks=() if path.stem == "light_squeezenet" else pytest.mark.slow, id=path.stem)
    for path in sorted(LIGHT.glob("light_*.onnx"))
]


@pytest.mark.parametrize("path", SPIKING)
def test_light_networks_become_spiking(tmp_path, path):
    """Every layer on spikes, close to onnxruntime, the same spikes step by step."""
    path = write(with_random_weights(onnx.load(path)), tmp_path)
    x = images(4, (3, 224, 224))
    snn = snnconvert.convert(path, x, progress=False)
    assert snn.plan.coverage > 0.999
    expected, actual = by_sample(path, x[:2], 1), snn(x[:2])
    variance = expected.square().mean()
    assert (actual - expected).square().mean() < 0.02 * variance
    assert torch.equal(snn.simulate(x[:1]).output, snn(x[:1]))


def test_several_inputs_and_outputs_become_spiking(tmp_path):
    generator = np.random.default_rng(0)
    weights = {
        name: (generator.normal(size=(4, 3, 3, 3)) / 5).astype(np.float32) for name in ("u", "v")
    } | {"w": (generator.normal(size=(2, 8, 1, 1)) / 3).astype(np.float32)}  # fmt: skip
    nodes = [
        node("Conv", ["left", "u"], ["a"]), node("Conv", ["right", "v"], ["b"]), node("Relu", ["a"], ["c"]),
        node("Sigmoid", ["b"], ["d"]), node("Concat", ["c", "d"], ["e"], axis=1), node("Conv", ["e", "w"], ["map"]),
        node("GlobalAveragePool", ["c"], ["mean"]),
    ]  # fmt: skip
    inputs = [value("left", [1, 3, 8, 8]), value("right", [1, 3, 8, 8])]
    path = write(model_of(nodes, weights, inputs=inputs, outputs=("map", "mean")), tmp_path)
    left, right = images(8, (3, 8, 8)), images(8, (3, 8, 8), seed=1)
    snn = snnconvert.convert(path, [snnconvert.Inputs(left, right)], progress=False)
    assert snn.plan.coverage == 1.0
    with torch.no_grad():
        expected = load_onnx(path).module(left, right)
    actual = snn(left, right)
    assert set(actual) == {"map", "mean"}
    for name, wanted in expected.items():
        assert (actual[name] - wanted).square().mean() < 1e-3 * wanted.square().mean()
