"""What trained networks lose at the default settings, as the benchmark measures it; skipped where the data isn't."""

import json

import pytest
from real_folders import data_or_skip

from benchmarks.real_networks import MEASUREMENTS, main


def measured(name, data, images=None):
    data_or_skip(data)
    result = MEASUREMENTS[name](images)
    assert result.report.coverage.macs_on_spikes == 1
    assert result.report.config["bits"] == 2
    assert result.report.config["T"] == 4
    assert result.report.config["weight_bits"] == 8
    return result


@pytest.mark.slow
def test_fastestdet_keeps_its_precision():
    result = measured("fastestdet", "detection")
    assert result.ann > 0.35
    assert result.points >= -2


@pytest.mark.slow
def test_face_detector_finds_the_same_faces():
    result = measured("faces", "detection")
    assert result.details["faces"] > 30
    assert result.ann > 0.99
    assert result.points >= -2
    assert result.details["sqnr_db"]["scores"] > 40
    assert result.details["sqnr_db"]["boxes"] > 45


@pytest.mark.slow
def test_espnet_keeps_its_intersections():
    result = measured("camvid", "camvid", 24)
    assert result.ann > 0.5
    assert result.points >= -1
    assert result.details["pixel_agreement"] > 0.95


@pytest.mark.slow
def test_mnist_network_keeps_its_accuracy():
    result = measured("mnist", "mnist")
    assert result.ann > 0.97
    assert result.points >= -0.3


@pytest.mark.slow
def test_gpt_still_sorts_everything():
    result = measured("gpt", "gpt_nano_sort")
    assert result.samples == 729
    assert result.ann == 1
    assert result.points >= -0.5


@pytest.mark.slow
def test_the_benchmark_ends_with_one_json_line(capsys):
    data_or_skip("gpt_nano_sort")
    main(["--only", "gpt", "--images", "27"])
    lines = capsys.readouterr().out.splitlines()
    (row,) = json.loads(lines[-1])["rows"]
    assert row["samples"] == 27
    assert lines[-2].startswith(row["network"])
