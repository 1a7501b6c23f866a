import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from artifact_networks import FILES, NETWORKS, TENSORS, build, contents, edit_json, settled
from safetensors.torch import save_file
from slow_cases import mostly_slow

import snnconvert
from snnconvert.artifact.graph_codec import graph_tensors

LOADER = """
import sys
import numpy as np
import torch
import snnconvert
for folder in sys.argv[1:]:
    assert not {"artifact_networks", "conftest"} & set(sys.modules)
    snn = snnconvert.load(folder)
    with torch.no_grad():
        output = snn(torch.from_numpy(np.load(folder + ".input.npy")))
    np.save(folder + ".output.npy", output.numpy())
"""


def run_elsewhere(folders, cwd):
    """Loads and runs saved networks in a process that has the package but none of the tests' modules."""
    package = Path(snnconvert.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", LOADER, *map(str, folders)], check=True, cwd=cwd, env=environment)


def save_with_input(snn, images, folder):
    snn.save(folder)
    np.save(f"{folder}.input.npy", images.numpy())
    return folder


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Every small network converted, saved, and run again in another process."""
    root = tmp_path_factory.mktemp("roundtrip")
    found = {}
    for name in NETWORKS:
        network, images = build(name)
        snn = snnconvert.convert(network, images, progress=False)
        found[name] = snn, images, save_with_input(snn, images, root / name)
    run_elsewhere([folder for _, _, folder in found.values()], root)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_another_process_computes_the_same_bytes(everything, name):
    snn, images, folder = everything[name]
    with torch.no_grad():
        expected = snn(images)
    assert np.load(f"{folder}.output.npy").tobytes() == expected.numpy().tobytes()
    assert expected.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_settings_plan_and_report_survive(everything, name):
    snn, _, folder = everything[name]
    loaded = snnconvert.load(folder)
    assert loaded.config == snn.config
    assert loaded.plan == snn.plan
    assert json.dumps(loaded.report.to_dict()) == json.dumps(snn.report.to_dict())
    assert loaded.input_shape == snn.input_shape
    assert [name for name, _ in loaded.synapses()] == [name for name, _ in snn.synapses()]
    assert [name for name, _ in loaded.neurons()] == [name for name, _ in snn.neurons()]
    assert not loaded.training


@pytest.mark.parametrize("name", NETWORKS)
def test_a_loaded_network_saves_the_same_bytes(everything, name, tmp_path):
    _, _, folder = everything[name]
    snnconvert.load(folder).save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_and_their_types_survive(everything, name):
    snn, _, folder = everything[name]
    before, after = snn.state_dict(), snnconvert.load(folder).state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value.dtype == after[key].dtype
        assert torch.equal(value, after[key])


def test_the_folder_holds_four_files_and_no_pickle(everything):
    _, _, folder = everything["residual"]
    assert {path.name for path in folder.iterdir()} == set(FILES)
    for path in folder.glob("*.json"):
        assert isinstance(json.loads(path.read_text()), dict)


@pytest.mark.parametrize("dtype", mostly_slow([torch.float16, torch.bfloat16, torch.float64], keep=[torch.bfloat16]))
def test_output_type_survives(dtype, tmp_path):
    network, images = build("residual")
    snn = snnconvert.convert(network.to(dtype), images, progress=False)
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    output = loaded(images.to(dtype))
    assert output.dtype == dtype
    assert torch.equal(output, snn(images.to(dtype)))


def test_overrides_and_analog_layers_survive(tmp_path):
    network, images = build("residual")
    config = snnconvert.ConversionConfig(
        bits=1, T=4, weight_bits=4, overrides={"conv1": {"analog": True}, "conv2": {"bits": 2, "T": 2}}
    )
    snn = snnconvert.convert(network, images, config, progress=False)
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    assert loaded.config == config
    assert torch.equal(loaded(images), snn(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0"])
def test_timm_networks_compute_the_same_bytes_elsewhere(name, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    images = torch.randn(8, 3, 224, 224)
    network = settled_norms(timm.create_model(name, pretrained=False), images)
    snn = snnconvert.convert(network, images, progress=False)
    folder = save_with_input(snn, images[:3], tmp_path / name)
    run_elsewhere([folder], tmp_path)
    with torch.no_grad():
        assert np.load(f"{folder}.output.npy").tobytes() == snn(images[:3]).numpy().tobytes()


def settled_norms(network, images):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    return settled(network, images, passes=3) if any_norm(network) else network.eval()


def any_norm(network):
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def store_plainly(folder, snn):
    """Writes the tensors as versions 2 and 3 did: all as they are, without their forms."""
    save_file(graph_tensors(snn.network), folder / TENSORS)
    edit_json(folder, "graph.json", lambda graph: graph.pop("tensors"))


def test_networks_of_version_3_are_read(tmp_path):
    network, images = build("residual")
    snn = snnconvert.convert(network, images, snnconvert.ConversionConfig(weight_bits=3), progress=False)
    snn.save(tmp_path / "old")
    assert json.loads((tmp_path / "old" / "graph.json").read_text())["tensors"]
    store_plainly(tmp_path / "old", snn)
    edit_json(tmp_path / "old", "config.json", lambda config: config.update(version=3))
    assert torch.equal(snnconvert.load(tmp_path / "old")(images), snn(images))


def test_networks_of_version_2_are_read(everything, tmp_path):
    """They hold the input's shape in place of a signature, and fewer settings."""
    snn, images, folder = everything[next(iter(NETWORKS))]
    shutil.copytree(folder, tmp_path / "old")

    def older(config):
        (tensor,) = config.pop("signature")["tensors"]
        config.update(version=2, input_shape=tensor["shape"])
        del config["conversion"]["parts"], config["conversion"]["dynamic_sizes"]

    def smaller(graph):
        for module in graph["modules"].values():
            for name in ("transposed", "output_padding"):
                (module.get("geometry") or {}).pop(name, None)

    store_plainly(tmp_path / "old", snn)
    edit_json(tmp_path / "old", "graph.json", smaller)
    edit_json(tmp_path / "old", "config.json", older)
    loaded = snnconvert.load(tmp_path / "old")
    assert loaded.input_shape == snn.input_shape
    assert torch.equal(loaded(images), snn(images))
