import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, norm
from slow_cases import mostly_slow
from structured_networks import FeatureHead
from test_capture_structures import FINE, decibels, features
from torch import nn

import snnconvert
from snnconvert.convert.capture import capture_call
from snnconvert.errors import ConversionError, InputError
from snnconvert.inputs import Inputs

DYNAMIC = snnconvert.ConversionConfig(bits=4, T=2, dynamic_sizes=True)


def images(count, height, width, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        norm(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


def pyramid():
    torch.manual_seed(0)

    def forward(net, x):
        fine = F.relu(net.fine(x))
        coarse = F.relu(net.coarse(fine))
        return {"fine": net.out(fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")), "coarse": coarse}

    layers = {"fine": nn.Conv2d(3, 8, 3, 2, 1), "coarse": nn.Conv2d(8, 8, 3, 2, 1), "out": nn.Conv2d(8, 4, 1)}
    return Net(forward, **layers)


@pytest.mark.parametrize("build", mostly_slow([classifier, pyramid], keep=[pyramid]))
def test_a_network_runs_at_any_size(build, tmp_path):
    net = build()
    loader = [images(8, 16, 16), images(8, 20, 24, 1), images(4, 33, 17, 2)]
    snn = snnconvert.convert(net, loader, DYNAMIC, progress=False)
    assert snn.input_shape == (3, None, None)
    assert snn.report.calibration_images == 20
    assert not snn.report.notes
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    for size in ((16, 16), (40, 24), (19, 31)):
        x = images(3, *size, seed=3)
        assert decibels(net(x), snn(x)) > 25
        again, answer, run = loaded(x), snn(x), snn.simulate(x).output
        for key in answer if isinstance(answer, dict) else [...]:
            assert torch.equal(again[key], answer[key])
            assert decibels(answer[key], run[key]) > 80


def test_the_result_does_not_depend_on_the_order_of_the_sizes():
    net = classifier()
    loader = [images(6, 16, 16), images(8, 20, 24, 1), images(4, 33, 17, 2)]
    x = images(3, 18, 18, 5)
    first, second = (snnconvert.convert(net, order, DYNAMIC, progress=False)(x) for order in (loader, [*loader[::-1]]))
    assert torch.equal(first, second)


def test_without_it_one_size_only():
    net = classifier()
    snn = snnconvert.convert(net, images(8, 16, 16), FINE, progress=False)
    with pytest.raises(InputError, match=r"\[N, 3, 16, 16\]"):
        snn(images(2, 20, 20))
    with pytest.raises(InputError, match="dynamic_sizes"):
        snnconvert.convert(net, [images(8, 16, 16), images(8, 20, 20)], FINE, progress=False)


@pytest.mark.parametrize(
    ("net", "words"),
    mostly_slow(
        [
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)), "fixes|fails"),
            (Net(lambda net, x: net.conv(x) + net.position, conv=nn.Conv2d(3, 4, 3)), "fixes|fails|size"),
            (nn.Sequential(nn.Flatten(1, 3), nn.Linear(192, 4)), "fixes|fails"),
        ],
        keep=2,
    ),
)
def test_networks_of_one_size_say_why(net, words):
    if isinstance(net, Net):
        net.register_buffer("position", torch.randn(1, 4, 6, 6))
    with pytest.raises(ConversionError, match=f"any image size.*({words}).*dynamic_sizes"):
        snnconvert.convert(net, images(4, 8, 8), DYNAMIC, progress=False)
    fallback = capture_call(net, images(2, 8, 8), sizes="where possible")
    assert fallback.note
    assert fallback.signature.input_shape == (3, 8, 8)


def test_branches_on_sizes_are_found():
    """A branch that another size takes otherwise: the graph holds one of them only."""

    def forward(net, x):
        y = net.conv(x)
        return y if x.shape[-1] % 2 == 0 else -y

    with pytest.raises(ConversionError, match="any image size"):
        capture_call(Net(forward, conv=nn.Conv2d(3, 4, 3)), images(2, 8, 8), sizes="dynamic")


def test_images_only():
    with pytest.raises(ConversionError, match="takes no images"):
        snnconvert.convert(nn.Sequential(nn.Linear(4, 4)), torch.randn(4, 4), DYNAMIC, progress=False)


def test_a_list_of_feature_maps_of_any_sizes():
    torch.manual_seed(0)
    net = FeatureHead().eval()
    snn = snnconvert.convert(net, [Inputs(features(8)), Inputs(features(8, 1))], DYNAMIC, progress=False)
    other = [torch.rand(2, 4, 13, 9), torch.rand(2, 4, 5, 6)]
    assert decibels(net(other), snn(other)) > 25


def test_maps_of_one_pixel_do_not_fix_the_size():
    torch.manual_seed(0)
    net = FeatureHead().eval()
    maps = [torch.rand(4, 4, 2, 2), torch.rand(4, 4, 1, 1)]
    captured = capture_call(net, Inputs(maps), sizes="where possible")
    assert [spec.shape for spec in captured.signature.tensors] == [(4, None, None)] * 2
    with torch.no_grad():
        for got, wanted in zip(captured.graph(*maps), net(maps), strict=True):
            torch.testing.assert_close(got, wanted)
