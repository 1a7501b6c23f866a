import dataclasses
import time
from pathlib import Path

import huggingface_hub.utils
import pytest
import safetensors.torch
import timm
import torch
from timm.models import PretrainedCfg

from snnconvert.errors import InputError
from snnconvert.models import hub
from snnconvert.models.source import LoadedModel, load_model


def message(*args: object, **kwargs: object) -> str:
    with pytest.raises(InputError) as error:
        load_model(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


class Offline:
    """A hub session whose requests fail at once."""

    def __init__(self) -> None:
        self.requests = 0

    def head(self, url: str, timeout: float) -> None:
        self.requests += 1
        raise ConnectionError("no route\nto host")


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def offline(empty_caches, monkeypatch):
    session = Offline()
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: session)
    return session


def fill_hub_cache(root: Path, repo: str, weights: dict[str, torch.Tensor]) -> None:
    folder = root / "hub" / f"models--{repo.replace('/', '--')}"
    revision = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "snapshots" / revision).mkdir(parents=True)
    safetensors.torch.save_file(weights, folder / "snapshots" / revision / "model.safetensors")


def test_random_timm_model():
    loaded = load_model("timm/resnet10t", random_weights=True, num_classes=7, image_size=64)
    assert (loaded.name, loaded.num_classes, loaded.input_size) == ("resnet10t", 7, (3, 64, 64))
    assert loaded.preprocessing.input_size == (3, 64, 64)
    assert loaded.weights == "random"
    assert len(loaded.notes) == 1
    assert "random" in loaded.notes[0]
    assert not loaded.module.training
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in loaded.module.parameters())
    assert loaded.module(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_preprocessing_is_the_models_own():
    loaded = load_model("test_vit", random_weights=True)
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert loaded.preprocessing.input_size == loaded.input_size == (3, 160, 160)
    assert loaded.preprocessing.crop_pct == 0.95


def test_image_size_of_a_model_that_is_built_for_one():
    loaded = load_model("test_vit", random_weights=True, image_size=96)
    assert loaded.module(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)


@pytest.mark.parametrize("name", ["resnet10t", "digits"])
def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    first, again, other = (load_model(name, random_weights=True, seed=seed).module for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    differs = False
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        differs |= not torch.equal(a, c)
    assert differs


def test_model_without_classifier_is_noted():
    loaded = load_model("vit_small_patch14_dinov2", random_weights=True, image_size=28)
    assert loaded.num_classes == 0
    assert "no classifier" in loaded.notes[1]


@pytest.mark.parametrize(
    ("name", "near"), [("resnet81", "resnet18"), ("digit", "digits"), ("timm/resnt50", "resnet50")]
)
def test_unknown_name_has_near_matches(name, near):
    assert near in message(name)


def test_unknown_name_without_near_match():
    assert "timm.list_models()" in message("qqqqqqqqqqqqqq")


def test_unknown_tag_lists_tags():
    assert "a1_in1k" in message("resnet18.bogus", random_weights=True)


def test_checkpoint_and_random_weights_exclude_each_other(tmp_path):
    assert "exclude each other" in message("digits", checkpoint=tmp_path / "w.pth", random_weights=True)


@pytest.mark.parametrize(("argument", "value"), [("num_classes", 0), ("image_size", -3), ("seed", -1)])
def test_numbers_out_of_range(argument, value):
    assert f"{argument} is {value}" in message("digits", **{argument: value})


def test_model_that_cannot_be_built():
    text = message("xcit_nano_12_p8_224", random_weights=True, image_size=30)
    assert "can't build xcit_nano_12_p8_224 with num_classes=None, image_size=30" in text


def test_model_without_pretrained_weights(offline):
    text = message("coatnet_0_224")
    assert "no pretrained weights for coatnet_0_224" in text
    assert offline.requests == 0


@pytest.mark.parametrize("name", ["resnet18", "gcvit_tiny.in1k"])
def test_offline_sentence(offline, name):
    started = time.monotonic()
    text = message(name)
    assert time.monotonic() - started < 10
    for part in ("could not be downloaded (no route)", "--checkpoint FILE", "--random-weights", "hub cache"):
        assert part in text
    assert offline.requests == 1


def test_offline_mode_of_the_hub_client(empty_caches, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = message("resnet18")
    assert "could not be downloaded" in text
    assert "offline mode" in text.lower()


def test_server_error_counts_as_unreachable(monkeypatch):
    class Broken:
        def head(self, url, timeout):
            return type("Response", (), {"status_code": 503})

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Broken)
    assert "503" in hub.unreachable_reason("https://example.invalid/x")


def test_any_other_answer_counts_as_reachable(monkeypatch):
    class Answers:
        def head(self, url, timeout):
            return type("Response", (), {"status_code": 404})

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Answers)
    assert hub.unreachable_reason("https://example.invalid/x") is None


def test_server_that_never_answers(monkeypatch):
    class Hangs:
        def head(self, url, timeout):
            time.sleep(2)

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Hangs)
    monkeypatch.setattr(hub, "_TOTAL_SECONDS", 0.1)
    started = time.monotonic()
    assert "no answer within 0.1 seconds" in hub.unreachable_reason("https://example.invalid/x")
    assert time.monotonic() - started < 1.5


def test_download_that_fails_after_the_server_answered(offline, monkeypatch):
    monkeypatch.setattr(hub, "unreachable_reason", lambda url: None)

    def create(name, pretrained, **kwargs):
        if pretrained:
            raise OSError("connection reset\nby peer")
        return real(name, pretrained=False, **kwargs)

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    assert "could not be downloaded (connection reset)" in message("resnet10t")


def test_cached_weights_need_no_network(offline, empty_caches):
    expected = timm.create_model("resnet10t").state_dict()
    fill_hub_cache(empty_caches, "timm/resnet10t.c3_in1k", dict(expected))
    loaded = load_model("resnet10t")
    assert (loaded.name, loaded.weights, loaded.notes) == ("resnet10t.c3_in1k", "pretrained", ())
    assert torch.equal(loaded.module.state_dict()["fc.weight"], expected["fc.weight"])
    assert offline.requests == 0


def test_pretrained_with_another_number_of_classes_is_noted(offline, empty_caches):
    fill_hub_cache(empty_caches, "timm/resnet10t.c3_in1k", dict(timm.create_model("resnet10t").state_dict()))
    loaded = load_model("resnet10t", num_classes=5)
    assert loaded.num_classes == 5
    assert "classifier is random" in loaded.notes[0]


def test_damaged_cache_is_named(offline, empty_caches):
    fill_hub_cache(empty_caches, "timm/resnet10t.c3_in1k", {})
    file = next((empty_caches / "hub").rglob("model.safetensors"))
    file.write_bytes(b"broken")
    text = message("resnet10t")
    assert str(file) in text
    assert "delete the file" in text


def test_timm_checkpoint(tmp_path):
    source = timm.create_model("resnet10t", num_classes=4)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    loaded = load_model("resnet10t", checkpoint=path, num_classes=4)
    assert (loaded.weights, loaded.notes) == (f"checkpoint {path}", ())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.module(x), source.eval()(x))
    assert "--num-classes 4" in message("resnet10t", checkpoint=path)
    assert "missing" in message("resnet18", checkpoint=path)


def test_checkpoint_in_another_projects_key_names(tmp_path):
    source = timm.create_model("test_vit")
    renamed = {f"visual.trunk.{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save(renamed, tmp_path / "w.pth")
    loaded = load_model("test_vit", checkpoint=tmp_path / "w.pth")
    assert torch.equal(loaded.module.state_dict()["head.weight"], source.state_dict()["head.weight"])


def test_loaded_model_is_frozen():
    loaded: LoadedModel = load_model("digits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.name = "x"


def test_weights_that_only_have_an_address(empty_caches):
    cfg = PretrainedCfg(url="https://example.invalid/weights/net-1234.pth")
    assert hub.cached_weights(cfg) is None
    file = Path(torch.hub.get_dir()) / "checkpoints" / "net-1234.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert hub.cached_weights(cfg) == file


def test_revision_in_the_hub_id(empty_caches):
    fill_hub_cache(empty_caches, "owner/net", {"a": torch.ones(1)})
    assert hub.cached_weights(PretrainedCfg(hf_hub_id="owner/net")).name == "model.safetensors"
    assert hub.cached_weights(PretrainedCfg(hf_hub_id="owner/net@main")) is not None
    assert hub.cached_weights(PretrainedCfg(hf_hub_id="owner/net@other")) is None
