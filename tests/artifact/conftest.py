import shutil

import pytest
from artifact_networks import build

import snnconvert


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory):
    network, images = build("residual")
    snn = snnconvert.convert(network, images, progress=False)
    folder = tmp_path_factory.mktemp("artifact") / "residual"
    snn.save(folder)
    return snn, images, folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """A converted network, images and a folder of its own with the saved network."""
    snn, images, folder = saved_once
    shutil.copytree(folder, tmp_path / "net")
    return snn, images, tmp_path / "net"
