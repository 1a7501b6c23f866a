"""A graph.json whose checksum fits but that was written to do harm is refused, and nothing is run."""

import contextlib
import json
import shutil

import pytest
import torch
from artifact_networks import TENSORS, cases, edit_json, repair_checksums
from safetensors.torch import load_file, save_file
from torch import nn

import snnconvert
from snnconvert.errors import ArtifactError


def refuse(folder, images):
    """Loads, and runs what was loaded: a refusal has to come from the loading."""
    with pytest.raises(ArtifactError) as caught:
        snnconvert.load(folder)(images)
    assert "\n" not in str(caught.value)


def first(graph, op):
    return next(node for node in graph["nodes"] if node["op"] == op)


def insert_call(graph, target, args, kwargs=None):
    """Puts a function call in front of the output and lets the output read it."""
    output = graph["nodes"][-1]
    call = {"name": "evil", "op": "call_function", "target": target, "args": args, "kwargs": kwargs or {}}
    graph["nodes"].insert(-1, call)
    output["args"] = [{"node": "evil"}]


OPERATORS = [
    "os.system",
    "posix.system",
    "subprocess.run",
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "builtins.open",
    "eval",
    "operator.attrgetter",
    "operator.methodcaller",
    "operator.call",
    "operator.setitem",
    "torch.load",
    "torch.hub.load",
    "_operator.getitem",
    "snnconvert.load",
    "snnconvert.artifact_folder.load_artifact",
    "aten.from_file",
    "aten.from_file.default",
    "aten.from_file.out",
    "aten.load.default",
    "aten.add_.Tensor",
    "aten.add.out",
    "aten.set_.source_Storage",
    "aten.__class__",
    "aten.__init__.__globals__",
    "aten.add.__class__",
    "aten.add.name",
    "aten.add",
    "aten.",
    "aten",
    "aten.add.Tensor.extra",
    "prim.Print.default",
    "quantized.linear.default",
    "_foobar",
    "",
    ".",
]


@pytest.mark.parametrize("target", OPERATORS)
def test_operators_beyond_the_allowed_ones(saved, tmp_path, target):
    marker = tmp_path / "marker"
    edit_json(saved[2], "graph.json", lambda g: insert_call(g, target, [f"touch {marker}"]))
    refuse(saved[2], saved[1])
    assert not marker.exists()


def test_operators_that_write_files(saved, tmp_path):
    marker = tmp_path / "marker"
    edit_json(saved[2], "graph.json", lambda g: insert_call(g, "aten.save.default", [{"node": "x"}, str(marker)]))
    refuse(saved[2], saved[1])
    assert not marker.exists()


@pytest.mark.parametrize("target", [None, 3, [], {}, {"node": "x"}, True])
def test_operators_that_are_no_names(saved, target):
    edit_json(saved[2], "graph.json", lambda g: insert_call(g, target, []))
    refuse(saved[2], saved[1])


def touch(marker):
    return f'__import__("pathlib").Path("{marker}").touch()'


def test_code_in_the_name_of_the_input(saved, tmp_path):
    marker = tmp_path / "marker"

    def change(graph):
        first(graph, "placeholder")["target"] = f"x={touch(marker)}"

    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])
    assert not marker.exists()


def test_code_in_the_name_of_a_module(saved, tmp_path):
    marker = tmp_path / "marker"
    evil = f'training") or open("{marker}", "w") or ("'

    def change(graph):
        old = first(graph, "call_module")["target"]
        graph["modules"] = {evil if name == old else name: item for name, item in graph["modules"].items()}
        first(graph, "call_module")["target"] = evil
        rename_tensors(saved[2], graph, old, evil)

    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])
    assert not marker.exists()


def rename_tensors(folder, graph, old, new):
    """Renames a module's tensors in the file and in the graph's own table of them."""
    tensors = load_file(folder / TENSORS)

    def renamed_keys(items):
        return {
            f"{new}.{key.removeprefix(f'{old}.')}" if key.startswith(f"{old}.") else key: value
            for key, value in items.items()
        }

    renamed = renamed_keys(tensors)
    graph["tensors"] = renamed_keys(graph["tensors"])
    assert renamed.keys() != tensors.keys()
    save_file(renamed, folder / TENSORS)
    repair_checksums(folder)


def test_code_in_the_name_of_a_tensor(saved, tmp_path):
    marker = tmp_path / "marker"
    evil = f'training") or open("{marker}", "w") or ("'
    tensors = load_file(saved[2] / TENSORS)
    tensors[evil] = tensors["real_head.unit"].clone()
    save_file(tensors, saved[2] / TENSORS)

    def change(graph):
        graph["nodes"].insert(-1, {"name": "evil", "op": "get_attr", "target": evil, "args": []})
        graph["nodes"][-1]["args"] = [{"node": "evil"}]

    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])
    assert not marker.exists()


def test_code_in_the_name_of_a_keyword(saved, tmp_path):
    marker = tmp_path / "marker"
    operand = {"node": "x"}
    evil = f"alpha = {touch(marker)} or 1, other"
    edit_json(saved[2], "graph.json", lambda g: insert_call(g, "aten.add.Tensor", [operand], {evil: operand}))
    refuse(saved[2], saved[1])
    assert not marker.exists()


@pytest.mark.parametrize("place", ["name", "meta", "argument"])
def test_code_elsewhere_is_plain_text(saved, tmp_path, place):
    """Names of nodes, metadata and string arguments: whether refused or not, nothing of them is run."""
    marker = tmp_path / "marker"
    evil = f'x\n{touch(marker)}\n"""{touch(marker)}'

    def change(graph):
        node = first(graph, "call_module")
        if place == "name":
            node["name"] = evil
            rename = {"node": evil}
            for other in graph["nodes"]:
                other["args"] = [rename if a == {"node": "neuron_x"} else a for a in other["args"]]
        elif place == "meta":
            node["meta"] = dict.fromkeys(("layer", "source", "stack_trace", "val", "nn_module_stack"), evil)
        else:
            first(graph, "placeholder")["args"] = [evil]

    edit_json(saved[2], "graph.json", change)
    with contextlib.suppress(ArtifactError):
        snnconvert.load(saved[2])(saved[1])
    assert not marker.exists()


@pytest.mark.parametrize("target", ["x y", "1", "", "*args", "**kwargs", "x, y", "x: int", "class", 'x"', None, 7])
def test_input_names_that_are_no_identifiers(saved, target):
    edit_json(saved[2], "graph.json", lambda g: first(g, "placeholder").update(target=target))
    refuse(saved[2], saved[1])


@pytest.mark.parametrize("target", ["self", "a.b"])
def test_input_names_that_are_no_parameters(saved, target):
    edit_json(saved[2], "graph.json", lambda g: first(g, "placeholder").update(target=target))
    refuse(saved[2], saved[1])


BROKEN_GRAPHS = {
    "no nodes": lambda g: g.pop("nodes"),
    "no modules": lambda g: g.pop("modules"),
    "empty": lambda g: g.update(nodes=[], modules={}),
    "nodes are an object": lambda g: g.update(nodes={}),
    "nodes are numbers": lambda g: g.update(nodes=[1, 2]),
    "modules are a list": lambda g: g.update(modules=[]),
    "no output": lambda g: g["nodes"].pop(),
    "two outputs": lambda g: g["nodes"].append({**g["nodes"][-1], "name": "again"}),
    "no input": lambda g: g["nodes"].pop(0),
    "two inputs": lambda g: g["nodes"].insert(1, {**g["nodes"][0], "name": "y", "target": "y"}),
    "a node after the output": lambda g: g["nodes"].append({**g["nodes"][1], "name": "late"}),
    "output of nothing": lambda g: g["nodes"][-1].update(args=[]),
    "two nodes of one name": lambda g: g["nodes"].insert(2, dict(g["nodes"][1])),
    "an undefined node": lambda g: g["nodes"][2].update(args=[{"node": "nobody"}]),
    "itself": lambda g: g["nodes"][2].update(args=[{"node": g["nodes"][2]["name"]}]),
    "a later node": lambda g: g["nodes"][1].update(args=[{"node": g["nodes"][3]["name"]}]),
    "node name missing": lambda g: g["nodes"][2].pop("name"),
    "node name is a number": lambda g: g["nodes"][1].update(name=5),
    "node target missing": lambda g: g["nodes"][2].pop("target"),
    "unknown node kind": lambda g: g["nodes"][2].update(op="call_method", target="numpy"),
    "no such module": lambda g: g["nodes"][1].update(target="nowhere"),
    "a parent of a module": lambda g: g["nodes"][1].update(target=""),
    "no such tensor": lambda g: g["nodes"][1].update(op="get_attr", target="nowhere"),
    "arguments are a number": lambda g: g["nodes"][1].update(args=3),
    "keywords are a list": lambda g: g["nodes"][1].update(kwargs=[1]),
    "metadata is a number": lambda g: g["nodes"][1].update(meta=3),
    "argument of two kinds": lambda g: g["nodes"][1].update(args=[{"node": "x", "float": "0x1p+0"}]),
    "argument of no kind": lambda g: g["nodes"][1].update(args=[{}]),
    "argument of an unknown kind": lambda g: g["nodes"][1].update(args=[{"pickle": "gASV"}]),
    "float that is none": lambda g: g["nodes"][1].update(args=[{"float": "one"}]),
    "float beyond float64": lambda g: g["nodes"][1].update(args=[{"float": "0x1p+99999"}]),
    "device that is none": lambda g: g["nodes"][1].update(args=[{"device": "moon"}]),
    "type that is a function": lambda g: g["nodes"][1].update(args=[{"dtype": "load"}]),
    "type that is another": lambda g: g["nodes"][1].update(args=[{"dtype": "strided"}]),
    "layout that is a type": lambda g: g["nodes"][1].update(args=[{"layout": "float32"}]),
}


ACCEPTED_GRAPHS = {
    "empty",
    "nodes are an object",
    "no output",
    "two outputs",
    "two inputs",
    "a node after the output",
    "two nodes of one name",
    "float beyond float64",
    "type that is another",
    "layout that is a type",
}


@pytest.mark.parametrize("change", cases(BROKEN_GRAPHS))
def test_broken_graphs(saved, change):
    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])


def test_arguments_nested_without_end(saved):
    text = (saved[2] / "graph.json").read_text()
    graph = json.loads(text)
    graph["nodes"][1]["args"] = ["DEEP"]
    deep = "[" * 50_000 + "]" * 50_000
    (saved[2] / "graph.json").write_text(json.dumps(graph).replace('"DEEP"', deep))
    repair_checksums(saved[2])
    refuse(saved[2], saved[1])


def module(graph, kind):
    return next(item for item in graph["modules"].values() if item["kind"] == kind)


def synapse(graph):
    return module(graph, "synapse")


def neuron(graph):
    return module(graph, "neuron")


BROKEN_MODULES = {
    "unknown kind": lambda g: synapse(g).update(kind="pickle"),
    "a torch class": lambda g: synapse(g).update(kind="torch.nn.Conv2d"),
    "no kind": lambda g: synapse(g).pop("kind"),
    "kind is a list": lambda g: synapse(g).update(kind=["synapse"]),
    "another kind": lambda g: synapse(g).update(kind="neuron"),
    "module is a number": lambda g: g["modules"].update({next(iter(g["modules"])): 3}),
    "more bits than a word": lambda g: neuron(g)["code"].update(bits=4, T=4),
    "a million steps": lambda g: neuron(g)["code"].update(bits=1, T=10**6),
    "no steps": lambda g: neuron(g)["code"].update(T=0),
    "bits are text": lambda g: neuron(g)["code"].update(bits="2"),
    "offset beyond the code": lambda g: neuron(g)["code"].update(offset=10**9),
    "offset is text": lambda g: neuron(g)["code"].update(offset="1"),
    "a neuron that isn't there": lambda g: neuron(g).update(neuron="mystery"),
    "a neuron's unknown setting": lambda g: neuron(g).update(neuron="packed:colour=1"),
    "a neuron that is a number": lambda g: neuron(g).update(neuron=7),
    "signs of unsigned spikes": lambda g: neuron(g)["code"].update(signed=True),
    "unknown setting of a code": lambda g: neuron(g)["code"].update(colour=1),
    "code is a list": lambda g: neuron(g).update(code=[]),
    "17 weight bits": lambda g: synapse(g).update(weight_bits=17),
    "weight bits are text": lambda g: synapse(g).update(weight_bits="many"),
    "words beyond 8 bits": lambda g: synapse(g).update(word_range=[-(10**18), 10**18]),
    "words the wrong way round": lambda g: synapse(g).update(word_range=[255, 0]),
    "words that exceed a float": lambda g: synapse(g).update(word_range=[0, 10**400]),
    "three ends of a range": lambda g: synapse(g).update(word_range=[0, 1, 2]),
    "linear in place of a convolution": lambda g: synapse(g).update(geometry=None),
    "geometry of one number": lambda g: synapse(g)["geometry"].update(stride=2),
    "geometry of three numbers": lambda g: synapse(g)["geometry"].update(stride=[1, 1, 1]),
    "geometry of text": lambda g: synapse(g)["geometry"].update(stride=["a", "b"]),
    "stride of zero": lambda g: synapse(g)["geometry"].update(stride=[0, 0]),
    "negative padding": lambda g: synapse(g)["geometry"].update(padding=[-1, -1]),
    "padding without end": lambda g: synapse(g)["geometry"].update(padding=[10**12, 10**12]),
    "padding beyond int64": lambda g: synapse(g)["geometry"].update(padding=[10**30, 10**30]),
    "no groups": lambda g: synapse(g)["geometry"].update(groups=0),
    "groups that don't divide": lambda g: synapse(g)["geometry"].update(groups=3),
    "pool over the batch": lambda g: module(g, "sum_pool")["geometry"].update(dims=[0]),
    "pool over nothing": lambda g: module(g, "sum_pool")["geometry"].update(dims=None),
    "pool over text": lambda g: module(g, "sum_pool")["geometry"].update(dims=["a"]),
    "pool with an unknown setting": lambda g: module(g, "sum_pool")["geometry"].update(colour=1),
}


ACCEPTED_MODULES = {
    "17 weight bits",
    "words beyond 8 bits",
    "words the wrong way round",
    "words that exceed a float",
    "linear in place of a convolution",
    "geometry of three numbers",
    "geometry of text",
    "stride of zero",
    "negative padding",
    "padding without end",
    "padding beyond int64",
    "no groups",
    "groups that don't divide",
    "pool over the batch",
    "pool over text",
    "pool with an unknown setting",
}


@pytest.mark.parametrize("change", cases(BROKEN_MODULES))
def test_broken_modules(saved, change):
    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])


def test_potentials_of_neurons_that_are_not_there(saved):
    tensors = load_file(saved[2] / TENSORS)
    for size in ([1, 3, 5, 7], [1, 3, 13]):
        wrong = {"neuron_x.bias": torch.ones(size)}
        save_file({**tensors, **wrong}, saved[2] / TENSORS, metadata={"format": "pt"})
        repair_checksums(saved[2])
        refuse(saved[2], saved[1])


def test_widths_of_channels_out_of_range(saved):
    tensors = load_file(saved[2] / TENSORS)
    weight = next(name for name in tensors if name.startswith("synapse") and name.endswith(".weight"))
    channels = len(tensors[weight])
    name = f"{weight.removesuffix('.weight')}.channel_bits"
    for widths in (torch.zeros(channels), torch.full((channels,), 9), torch.full((channels + 1,), 3)):
        save_file({**tensors, name: widths.to(torch.uint8)}, saved[2] / TENSORS, metadata={"format": "pt"})
        repair_checksums(saved[2])
        refuse(saved[2], saved[1])
    save_file({**tensors, name: torch.ones(channels, dtype=torch.uint8)}, saved[2] / TENSORS, metadata={"format": "pt"})
    repair_checksums(saved[2])
    snnconvert.load(saved[2])(saved[1])


@pytest.mark.parametrize("size", [[10**18], [10**9, 10**9], [2**63]])
@pytest.mark.parametrize("target", ["aten.zeros.default", "aten.empty.memory_format", "aten.ones.default"])
def test_tensors_without_end(saved, size, target):
    edit_json(saved[2], "graph.json", lambda g: insert_call(g, target, [size]))
    refuse(saved[2], saved[1])


def test_a_module_that_hides_the_network_itself(saved):
    """A module may not take the name of one of the network's own attributes."""

    def change(graph):
        old = first(graph, "call_module")["target"]
        graph["modules"]["forward"] = graph["modules"].pop(old)
        first(graph, "call_module")["target"] = "forward"
        rename_tensors(saved[2], graph, old, "forward")

    edit_json(saved[2], "graph.json", change)
    refuse(saved[2], saved[1])


@pytest.fixture(scope="module")
def gated_once(tmp_path_factory):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            scores = torch.nn.functional.leaky_relu(self.left(x)) @ torch.sigmoid(self.right(x)).mT
            return scores @ self.out(self.left(x))

    images = torch.randn(16, 5, 6)
    folder = tmp_path_factory.mktemp("gated") / "net"
    snnconvert.convert(Gated().eval(), images, progress=False).save(folder)
    return folder, images


def edit_tensors(folder, change):
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)
    repair_checksums(folder)


def tensor_named(tensors, part, end):
    return next(value for name, value in tensors.items() if part in name and name.endswith(end))


LYING_TENSORS = {
    "a table of NaN": lambda t: tensor_named(t, "transfer_sigmoid", ".table").fill_(float("nan")),
    "an infinite gain": lambda t: tensor_named(t, "transfer_sigmoid", ".gain").fill_(float("inf")),
    "a slope of NaN": lambda t: tensor_named(t, "transfer_leaky", ".negative_gain").fill_(float("nan")),
    "a table far away": lambda t: tensor_named(t, "transfer_sigmoid", ".first").fill_(1 << 40),
    "a negative multiplier": lambda t: tensor_named(t, "product", ".multiplier").fill_(-3.0),
    "a multiplier of NaN": lambda t: tensor_named(t, "product", ".multiplier").fill_(float("nan")),
}


@pytest.mark.parametrize("change", cases(LYING_TENSORS))
def test_transfers_and_products_with_impossible_numbers(gated_once, tmp_path, change):
    folder = shutil.copytree(gated_once[0], tmp_path / "net")
    edit_tensors(folder, change)
    refuse(folder, gated_once[1])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_products_that_read_more_than_their_proof_assumes(gated_once, tmp_path, place):
    folder = shutil.copytree(gated_once[0], tmp_path / "net")

    def lie(graph):
        module = next(module for module in graph["modules"].values() if module["kind"] == "product")
        module["largest"][place] //= 2

    edit_tensors(
        folder, lambda tensors: tensor_named(tensors, "product", ".largest")[place].div_(2, rounding_mode="floor")
    )
    edit_json(folder, "graph.json", lie)
    with pytest.raises(ArtifactError, match="its sums are proven for"):
        snnconvert.load(folder)


def test_synapses_that_read_more_than_their_proof_assumes(saved):
    edit_tensors(saved[2], lambda tensors: tensors["synapse_conv2.limits"].copy_(torch.tensor([0, 3])))
    edit_json(saved[2], "graph.json", lambda g: g["modules"]["synapse_conv2"].update(word_range=[0, 3]))
    with pytest.raises(ArtifactError, match=r"reads words 0\.\.255, its sums are proven for 0\.\.3"):
        snnconvert.load(saved[2])
