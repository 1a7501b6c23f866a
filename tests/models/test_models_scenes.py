import hashlib
import json

import pytest
import safetensors
import torch
from slow_cases import mostly_slow

import snnconvert
from snnconvert.data.scenes import CALIBRATION_SEED, HELD_OUT_SEED, SCENE_CLASSES, Scenes
from snnconvert.errors import InputError
from snnconvert.models import scenes
from snnconvert.models.scene_detector import SceneDetector, SceneDetectorNetwork
from snnconvert.models.scene_scores import dense_logits
from snnconvert.models.train_scenes import (
    RECIPES,
    SceneTraining,
    main,
    save_scenes_network,
    stored,
    train_scenes,
    training_batch,
)

NETWORKS = {
    "detector": (
        scenes.load_scene_detector,
        scenes.DETECTOR_WEIGHTS,
        "eec4dad27defe8af1223272560b05829aa7559cd8d286e09ef4f6aae1bb87a31",
    ),
    "retinanet": (
        scenes.load_scene_retinanet,
        scenes.RETINANET_WEIGHTS,
        "820e2181f2ebbccc3a5f0ee416038520334ec16023f375794bb519739b7ba33a",
    ),
    "segmenter": (
        scenes.load_scene_segmenter,
        scenes.SEGMENTER_WEIGHTS,
        "232e7f247342aaecfdafedb058107a3c039e39525a34bc0ede26906a83f362e0",
    ),
    "lraspp": (
        scenes.load_scene_lraspp,
        scenes.LRASPP_WEIGHTS,
        "642001e0b70e8c7dcf8e69e41b04409ca3fe23c81d2be4bda71731007ba52610",
    ),
}
FLOORS = {
    "detector": {"map": 0.75, "map_50": 0.93},
    "retinanet": {"map": 0.75, "map_50": 0.93},
    "segmenter": {"miou": 0.92},
    "lraspp": {"miou": 0.86},
}


@pytest.fixture(scope="module")
def held_out():
    return list(Scenes(32, seed=HELD_OUT_SEED))


@pytest.fixture(scope="module")
def calibration():
    return Scenes(32, seed=CALIBRATION_SEED).images()


def record(path):
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


@pytest.mark.parametrize("name", list(NETWORKS))
def test_weights_are_the_published_ones_and_small(name):
    load, path, digest = NETWORKS[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert path.stat().st_size < 600_000
    network = load()
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) < 300_000
    assert record(path)["command"] == f"python -m snnconvert.models.train_scenes {name}"


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_are_good_on_scenes_they_have_not_seen(name, held_out):
    pytest.importorskip("torchmetrics")
    load, path, _ = NETWORKS[name]
    scores = RECIPES[name].scores(load(), held_out)
    written = record(path)
    for metric, floor in FLOORS[name].items():
        assert scores[metric] > floor
        assert written[f"held_out_{metric}"] > floor


def test_detectors_are_called_like_torchvisions(held_out):
    images = [scene.image for scene in held_out[:3]]
    for load in (scenes.load_scene_detector, scenes.load_scene_retinanet):
        with torch.no_grad():
            found = load()(images)
        assert len(found) == 3
        for item in found:
            assert set(item) == {"boxes", "labels", "scores"}
            assert 1 <= int(item["labels"].min()) <= int(item["labels"].max()) < len(SCENE_CLASSES)
            assert torch.equal(item["scores"], item["scores"].sort(descending=True).values)
            assert 0 <= float(item["boxes"].min()) <= float(item["boxes"].max()) <= 128


def test_sides_that_are_no_multiple_of_16(held_out):
    detector = scenes.load_scene_detector()
    image = held_out[0].image[:, :120, :100]
    with torch.no_grad():
        (found,) = detector(image[None])
    assert len(found["scores"])
    assert float(found["boxes"][:, 0::2].max()) <= 100
    assert float(found["boxes"][:, 1::2].max()) <= 120


BUILDERS = [SceneDetectorNetwork, scenes.load_scene_segmenter, scenes.load_scene_lraspp]


@pytest.mark.parametrize("build", mostly_slow(BUILDERS, keep=2))
def test_everything_with_multiply_accumulates_becomes_spiking(build):
    plan = snnconvert.plan(build().eval(), torch.rand(1, 3, 128, 128))
    assert plan.total_macs > 0
    assert sum(node.macs for node in plan.analog) == 0
    assert {node.op for node in plan.analog} <= {"upsample_bilinear2d"}


def decided(network, images):
    with torch.no_grad():
        return dense_logits(network(images)).argmax(1)


@pytest.mark.parametrize("load", mostly_slow([scenes.load_scene_segmenter, scenes.load_scene_lraspp], keep=1))
def test_converted_segmenters_decide_alike(load, held_out, calibration):
    ann = load()
    snn = snnconvert.convert(ann, calibration, progress=False)
    images = torch.stack([scene.image for scene in held_out[:8]])
    assert float((decided(ann, images) == decided(snn, images)).float().mean()) > 0.98


@pytest.mark.slow
def test_converted_detector_finds_the_same(held_out, calibration):
    detector = scenes.load_scene_detector()
    snn = snnconvert.convert(detector.network, calibration, progress=False)
    images = torch.stack([scene.image for scene in held_out[:8]])
    assert found_again(detector(images), SceneDetector(snn)(images)) > 0.9


@pytest.mark.slow
def test_converted_retinanet_finds_the_same(held_out, calibration):
    detector = scenes.load_scene_retinanet()
    snn = snnconvert.convert(detector, [list(part) for part in calibration.split(8)], progress=False)
    assert list(snn.parts) == ["backbone", "head"]
    assert snn.coverage == 1
    images = [scene.image for scene in held_out[:8]]
    with torch.no_grad():
        assert found_again(detector(images), snn(images)) > 0.9


def found_again(before, after, score=0.5, iou=0.7):
    """Share of the certain detections that another detector has with the same class, about the same box and score."""
    from torchvision.ops import box_iou

    again = total = 0
    for one, other in zip(before, after, strict=True):
        overlaps = box_iou(one["boxes"], other["boxes"]) > iou
        same = overlaps & (one["labels"][:, None] == other["labels"]) & (other["scores"] > score / 2)
        certain = one["scores"] > score
        again, total = again + int(same.any(1)[certain].sum()), total + int(certain.sum())
    assert total > 10
    return again / total


@pytest.mark.parametrize("name", list(RECIPES))
def test_training_is_reproducible(name):
    settings = SceneTraining(epochs=1, scenes=16, batch_size=8)
    batch = training_batch(16)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    one, other = (train_scenes(RECIPES[name], settings, batch).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_saved_weights_are_read_again(tmp_path, monkeypatch):
    torch.manual_seed(0)
    detector = SceneDetector()
    save_scenes_network(detector, tmp_path / "w.safetensors", {"seed": 0})
    monkeypatch.setattr(scenes, "DETECTOR_WEIGHTS", tmp_path / "w.safetensors")
    loaded = scenes.load_scene_detector().state_dict()
    for name, tensor in detector.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-6)
    rounded = stored(detector).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in rounded.items())
    assert record(tmp_path / "w.safetensors") == {"seed": 0}


def test_missing_weights_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "SEGMENTER_WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"none\.safetensors"):
        scenes.load_scene_segmenter()


def test_command_writes_weights_and_says_how_good_they_are(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchmetrics")
    from snnconvert.models import train_scenes as module

    recipe = RECIPES["segmenter"]
    tiny = type(recipe)(recipe.build, recipe.loss, recipe.scores, SceneTraining(epochs=1, scenes=8, batch_size=8))
    monkeypatch.setattr(module, "RECIPES", {"segmenter": tiny})
    monkeypatch.setattr(module, "_HELD_OUT", 2)
    main(["segmenter", "--out", str(tmp_path / "w.safetensors")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "miou" in captured.err
    written = record(tmp_path / "w.safetensors")
    assert written["settings"]["scenes"] == 8
    assert 0 <= written["held_out_miou"] <= 1


def test_backbone_adds_the_coarser_level():
    torch.manual_seed(0)
    backbone = SceneDetectorNetwork().eval().backbone
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        fine, coarse = backbone(image)
        middle = backbone.block2(backbone.block1(backbone.stem(image)))
        top = backbone.top(backbone.block3(middle)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(fine, torch.relu(backbone.lateral(middle) + top))
    assert coarse.shape == (1, 48, 2, 3)
