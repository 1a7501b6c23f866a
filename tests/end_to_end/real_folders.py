"""Folders of real weights and data, for tests that are skipped where these aren't there."""

import pytest

from benchmarks.real_data import VARIABLE, data_folder


def data_or_skip(name):
    folder = data_folder(name)
    if folder is None:
        pytest.skip(f"no {name} data: set {VARIABLE} to the folder that holds {name}/")
    return folder
