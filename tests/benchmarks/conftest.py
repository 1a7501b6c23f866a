import pytest

from benchmarks.trained.networks import NETWORKS


@pytest.fixture
def only_networks(monkeypatch, tmp_path):
    """Puts the networks it is given in the place of all; there is data for them in the folder "here"."""

    def register(**networks):
        monkeypatch.setenv("SNNCONVERT_DATA", str(tmp_path / "data"))
        (tmp_path / "data" / "here").mkdir(parents=True)
        for name in list(NETWORKS):
            monkeypatch.delitem(NETWORKS, name)
        for name, network in networks.items():
            monkeypatch.setitem(NETWORKS, name, network)

    return register
