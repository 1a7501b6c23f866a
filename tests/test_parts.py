import copy
import json

import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.integer.runtime import ENGINES, RuntimeOptions
from snnconvert.errors import ArtifactError, ConfigurationError, ConversionError, EngineError, InputError

FINE = snnconvert.ConversionConfig(bits=4, T=2, weight_bits=8)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.more = nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x):
        return {"features": torch.relu(self.more(torch.relu(self.conv(x)))), "size": 4}


class Proposals(nn.Module):
    """Crops patches around as many places as are brighter than a threshold: depends on the data."""

    def __init__(self, threshold):
        super().__init__()
        self.score = nn.Conv2d(8, 1, 1)
        self.threshold = threshold

    def forward(self, features):
        places = torch.nonzero(self.score(features)[:, 0, 1:-1, 1:-1] > self.threshold)[:20].tolist()
        patches = [features[n, :, y : y + 3, x : x + 3] for n, y, x in places]
        return torch.stack(patches) if patches else features.new_zeros(0, 8, 3, 3)


class Detector(nn.Module):
    def __init__(self, threshold=0.0):
        super().__init__()
        self.body = Body()
        self.proposals = Proposals(threshold)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4))
        self.calls = []

    def forward(self, images):
        found = []
        for image in images:
            patches = self.proposals(self.body(image[None])["features"])
            found.append({"logits": self.head(patches), "count": len(patches)})
        return found


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 16 + 4 * (index % 2), 16, generator=generator) for index in range(count)]


def detector(threshold=0.0):
    torch.manual_seed(2)
    net = Detector(threshold).eval()
    with torch.no_grad():
        scores = [net.proposals.score(net.body(image[None])["features"]) for image in images(4)]
        net.proposals.score.bias -= torch.cat([score.flatten() for score in scores]).median()
    return net


def loader(parts=3):
    return [snnconvert.Inputs(images(4, seed)) for seed in range(parts)]


def decibels(reference, output):
    noise = float((reference - output).detach().double().square().sum())
    return 10 * torch.log10(torch.tensor(float(reference.detach().double().square().sum()) / max(noise, 1e-30)))


@pytest.fixture(scope="module")
def converted():
    net = detector()
    state = copy.deepcopy(net.state_dict())
    hybrid = snnconvert.convert(
        net, loader(), snnconvert.ConversionConfig(bits=4, T=2, parts=("body", "head")), progress=False
    )
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not net.body._forward_pre_hooks
    assert isinstance(net.body, Body)
    return net, hybrid


def test_whole_it_is_refused():
    with pytest.raises(ConversionError):
        snnconvert.convert(detector(), loader(), FINE, progress=False)


def test_parts_are_spiking_networks(converted):
    net, hybrid = converted
    assert isinstance(hybrid, snnconvert.HybridModel)
    assert list(hybrid.parts) == ["body", "head"]
    assert hybrid.parts["body"].input_shape == (3, None, None)
    assert hybrid.parts["head"].input_shape == (8, 3, 3)
    for image in images(3, 9):
        expected, actual = net.body(image[None]), hybrid.parts["body"](image[None])
        assert actual["size"] == 4
        assert decibels(expected["features"], actual["features"]) > 30
        patches = expected["features"][..., 1:4, 1:4]
        assert decibels(net.head(patches), hybrid.parts["head"](patches)) > 20
    for report in hybrid.report.values():
        assert report.fidelity.logit_sqnr_db > 25


def test_the_hybrid_is_called_like_the_model(converted):
    net, hybrid = converted
    for batch in (images(3, 7), images(1, 8)):
        expected, actual = net(batch), hybrid(batch)
        assert len(actual) == len(expected)
        for one, other in zip(expected, actual, strict=True):
            assert set(other) == {"logits", "count"}
            assert other["logits"].shape[1] == 4
            assert abs(one["count"] - other["count"]) <= 6
    assert not hybrid.training


def test_what_stays_outside_is_named(converted):
    _, hybrid = converted
    outside = {item.name: item.reason for item in hybrid.outside}
    assert set(outside) == {"", "proposals.score"}
    assert all(outside.values())
    assert 0.9 < hybrid.coverage < 1


def test_coverage_counts_calls():
    """Two calls of a part a sample count twice; what stays outside counts, too."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.outer = nn.Linear(4, 6)

        def forward(self, x):
            return self.outer(self.inner(torch.relu(self.inner(x))))

    hybrid = snnconvert.convert_parts(Twice(), torch.rand(40, 4), ["inner"], progress=False)
    assert hybrid.coverage == pytest.approx(2 * 16 / (2 * 16 + 24))
    assert hybrid.report["inner"].calibration_images == 80


def test_saving_and_loading(converted, tmp_path):
    net, hybrid = converted
    hybrid.save(tmp_path / "net")
    names = sorted(path.name for path in (tmp_path / "net").iterdir())
    assert names == ["part_0", "part_1", "parts.json"]
    loaded = snnconvert.HybridModel.load(tmp_path / "net", net)
    assert loaded.coverage == hybrid.coverage
    assert loaded.outside == hybrid.outside
    assert list(loaded.parts) == list(hybrid.parts)
    batch = images(4, 11)
    for one, other in zip(hybrid(batch), loaded(batch), strict=True):
        assert torch.equal(one["logits"], other["logits"])
    assert isinstance(net.body, Body)
    with pytest.raises(InputError, match="not empty"):
        hybrid.save(tmp_path / "net")
    hybrid.save(tmp_path / "net", force=True)


def test_loading_what_does_not_fit(converted, tmp_path):
    _, hybrid = converted
    hybrid.save(tmp_path / "net")
    with pytest.raises(ConfigurationError, match="no submodule 'body'"):
        snnconvert.HybridModel.load(tmp_path / "net", nn.Linear(2, 2))
    with pytest.raises(ArtifactError, match=r"parts\.json"):
        snnconvert.HybridModel.load(tmp_path, detector())
    index = json.loads((tmp_path / "net" / "parts.json").read_text())
    for change in (
        {"schema": "snnconvert.parts/99"},
        {"parts": {"body": "../net/part_0"}},
        {"parts": []},
        {"outside": 3},
        {"coverage": "x"},
    ):
        (tmp_path / "net" / "parts.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(ArtifactError, match=r"parts\.json"):
            snnconvert.HybridModel.load(tmp_path / "net", detector())


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("bodi",), "no submodule 'bodi'; near matches: .*body"),
        (("body", "body.conv"), "'body.conv' is inside part 'body'"),
        (("body", "body"), "inside part 'body'"),
    ],
)
def test_wrong_parts(parts, words):
    with pytest.raises(ConfigurationError, match=words):
        snnconvert.convert_parts(detector(), loader(), parts, progress=False)


def test_parts_must_be_named():
    with pytest.raises(ConfigurationError, match="name the parts"):
        snnconvert.convert_parts(detector(), loader(), progress=False)
    for parts in ("body", (3,), ("",)):
        with pytest.raises(ConfigurationError, match="parts must be names"):
            snnconvert.ConversionConfig(parts=parts)


def test_parts_that_nothing_reaches():
    with pytest.raises(ConversionError, match="part head: none of the first 16 calibration inputs reaches it"):
        snnconvert.convert_parts(detector(threshold=1e9), loader(), ["body", "head"], progress=False)
    with pytest.raises(InputError, match="empty"):
        snnconvert.convert_parts(detector(), [], ["body"], progress=False)


def test_calls_without_samples_are_passed_over():
    """The first images give no proposals, the later ones do."""
    net = detector()
    dark, bright = [torch.full_like(image, -1.0) for image in images(2)], images(4)
    with torch.no_grad():
        sign = net.proposals.score(net.body(bright[0][None])["features"]).mean()
        sign -= net.proposals.score(net.body(dark[0][None])["features"]).mean()
        net.proposals.score.weight *= sign.sign()
        highest = max(float(net.proposals.score(net.body(image[None])["features"]).max()) for image in dark)
        net.proposals.threshold = highest + 1e-3
        assert [item["count"] for item in net(dark)] == [0, 0]
    batches = [snnconvert.Inputs(dark), snnconvert.Inputs(bright)]
    hybrid = snnconvert.convert_parts(net, batches, ["body", "head"], FINE, progress=False)
    assert hybrid.report["head"].calibration_images > 0
    assert hybrid(dark)[0]["logits"].shape[1] == 4
    assert hybrid.parts["head"](torch.zeros(0, 8, 3, 3)).shape == (0, 4)


def test_overrides_name_layers_by_their_full_names():
    config = snnconvert.ConversionConfig(parts=("body", "head"), overrides={"body.more": {"bits": 1, "T": 8}})
    hybrid = snnconvert.convert(detector(), loader(), config, progress=False)
    layers = {layer.name: layer for layer in hybrid.report["body"].layers}
    assert (layers["more"].spike_bits, layers["more"].T) == (1, 8)
    config = snnconvert.ConversionConfig(parts=("body",), overrides={"body.mroe": {"bits": 1}})
    with pytest.raises(ConfigurationError, match=r"override 'body\.mroe' matches no layer"):
        snnconvert.convert(detector(), loader(), config, progress=False)


def test_overrides_name_products_of_activations_in_parts():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.left(x) * torch.sigmoid(self.right(x)))

    config = snnconvert.ConversionConfig(parts=("0",), overrides={"0.mul": {"analog": True}})
    hybrid = snnconvert.convert(nn.Sequential(Gated(), nn.ReLU()), torch.rand(40, 4), config, progress=False)
    (item,) = [item for item in hybrid.parts["0"].plan.analog if item.layer == "mul"]
    assert item.reason == "kept analog by an override"


def test_a_module_used_under_two_names_is_replaced_in_both():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
            self.second = self.first

        def forward(self, x):
            return self.second(self.first(x))

    hybrid = snnconvert.convert_parts(Shared(), torch.rand(40, 4), ["first"], FINE, progress=False)
    assert hybrid.model.first is hybrid.model.second
    assert [item.name for item in hybrid.outside] == [""]


def test_the_configuration_is_read_back():
    config = snnconvert.ConversionConfig(parts=["a", "b.c"], dynamic_sizes=True)
    assert snnconvert.ConversionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_budget_holds_for_each_part_and_other_objectives_are_refused():
    config = snnconvert.ConversionConfig(budget=20)
    hybrid = snnconvert.convert_parts(detector(), loader(), ("body", "head"), config, progress=False)
    assert set(hybrid.report) == {"body", "head"}
    for report in hybrid.report.values():
        assert report.totals.bit_budget <= 20
        assert report.allocation.objective == "budget"
    with pytest.raises(ConfigurationError, match="max_drop needs a network that is converted as a whole"):
        snnconvert.convert_parts(
            detector(), loader(), ("body",), snnconvert.ConversionConfig(max_drop=1.0), progress=False
        )


@pytest.fixture(params=ENGINES)
def engine(request):
    pytest.importorskip(request.param)
    return request.param


def assert_same(found, expected):
    """Equal to the last bit but that of the output's scale."""
    assert [item["count"] for item in found] == [item["count"] for item in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one["logits"], other["logits"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["onnxruntime"]), indirect=True)
def test_compiled_it_fires_the_same_words(converted, engine):
    net, hybrid = converted
    compiled = hybrid.compile(engine, threads=2, cache=False)
    assert isinstance(compiled, snnconvert.CompiledHybrid)
    assert list(compiled.parts) == ["body", "head"]
    assert {part.engine for part in compiled.parts.values()} == {engine}
    for batch in (images(3, 7), images(1, 8), images(4, 9)):
        assert_same(compiled(batch), hybrid(batch))
        assert_same(compiled(images=batch), hybrid(batch))
        features = hybrid.parts["body"](batch[0][None])["features"]
        inputs = {"body": batch[0][None], "head": features[..., 1:4, 1:4]}
        for name, part in compiled.parts.items():
            agreement = part.agreement(inputs[name])
            assert [layer.layer for layer in agreement] == [layer for layer, _ in hybrid.parts[name].neurons()]
            assert {layer.mismatches for layer in agreement} == {0}
    assert all(type(hybrid.model.get_submodule(name)) is snnconvert.SpikingModel for name in hybrid.parts)
    assert isinstance(net.body, Body)


@pytest.mark.parametrize("engine", mostly_slow(ENGINES, keep=["onnxruntime"]), indirect=True)
def test_compiled_it_finds_nothing_where_there_is_nothing(converted, engine):
    _, hybrid = converted
    hybrid = copy.deepcopy(hybrid)
    hybrid.model.proposals.threshold = 1e9
    compiled = hybrid.compile(engine, cache=False)
    (found,) = compiled(images(1))
    assert (found["count"], found["logits"].shape) == (0, (0, 4))


def test_engines_coexist(converted, monkeypatch):
    """Each has its own copy of the code between the parts, and the hybrid keeps its own."""
    _, hybrid = converted
    batch = images(3, 7)
    expected = hybrid(batch)
    engines = {name: hybrid.compile(name, cache=False) for name in ("onnxruntime", "torch")}
    for compiled in (*engines.values(), *engines.values()):
        assert_same(compiled(batch), expected)
    used = []
    real = snnconvert.CompiledNetwork.__call__
    monkeypatch.setattr(
        snnconvert.CompiledNetwork, "__call__", lambda self, *args: used.append(self.engine) or real(self, *args)
    )
    for name, compiled in engines.items():
        used.clear()
        compiled(batch)
        assert set(used) == {name}
    used.clear()
    assert_same(hybrid(batch), expected)
    assert not used


def test_options_of_compiled_parts(converted, tmp_path):
    _, hybrid = converted
    hybrid.compile(cache=tmp_path)
    again = hybrid.compile(lean=True, threads=1, cache=tmp_path)
    assert all(part.from_cache for part in again.parts.values())
    assert {part.options for part in again.parts.values()} == {RuntimeOptions(threads=1, lean=True)}
    with pytest.raises(InputError, match="built for batches of 2, got 1"):
        hybrid.compile(batch=2, cache=False)(images(1))
    with pytest.raises(ConfigurationError, match="'abacus'"):
        hybrid.compile("abacus")
    with pytest.raises(ConfigurationError, match="threads"):
        hybrid.compile(threads=0)


def test_a_module_used_under_two_names_is_compiled_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
            self.second, self.others = self.first, [self.first]

        def forward(self, x):
            return self.second(self.first(x)) + (self.second is self.first)

    x = torch.rand(40, 4)
    hybrid = snnconvert.convert_parts(Twice(), x, ["first"], FINE, progress=False)
    compiled = hybrid.compile("torch")
    assert list(compiled.parts) == ["first"]
    assert torch.equal(compiled(x), hybrid(x))


def test_a_part_that_no_engine_runs_is_named():
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=4)
    hybrid = snnconvert.convert_parts(detector(), loader(), ["head"], config, progress=False)
    with pytest.raises(EngineError, match=r"^part head: \S+: integer engines run packed neurons, not if"):
        hybrid.compile(cache=False)
