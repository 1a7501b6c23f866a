import pytest
import torch
import torchvision
from slow_cases import mostly_slow
from tiny_detectors import SIZES, TinyBackbone, build, images

import snnconvert
from snnconvert.errors import InputError

FINE = snnconvert.ConversionConfig(bits=4, T=2, weight_bits=8)
POST = {"transform": "preprocessing", "rpn": "postprocessing", "roi_heads.box_roi_pool": "RoIAlign"}


def decibels(reference, output):
    noise = float((reference - output).detach().double().square().sum())
    return 10 * torch.log10(torch.tensor(float(reference.detach().double().square().sum()) / max(noise, 1e-30)))


def tensors(value):
    return [item for item in torch.utils._pytree.tree_leaves(value) if isinstance(item, torch.Tensor)]


def livened(net):
    """The same detector with heads whose outputs depend on the image, not on their biases alone."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "head" in name or "predictor" in name:
                fan_in = max(parameter[0].numel(), 1)
                parameter.copy_(torch.randn(parameter.shape) * (0.1 if parameter.dim() == 1 else fan_in**-0.5))
    return net


def assert_parts_follow(net, hybrid, batch, minimum):
    """Every part gives what the model's own submodule gives on what the model feeds it."""
    compared = set()

    def compare(name):
        def hook(module, args, output):
            found = hybrid.parts[name](*args)
            compared.add(name)
            for one, other in zip(tensors(output), tensors(found), strict=True):
                assert one.shape == other.shape
                assert one.numel() == 0 or decibels(one, other) > minimum, name

        return hook

    handles = [net.get_submodule(name).register_forward_hook(compare(name)) for name in hybrid.parts]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    assert compared == set(hybrid.parts)


@pytest.mark.parametrize(
    ("kind", "parts"),
    mostly_slow(
        [
            ("retinanet", ["backbone", "head"]),
            ("fcos", ["backbone", "head"]),
            ("fasterrcnn", ["backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"]),
        ],
        keep=1,
    ),
)
def test_tiny_detectors(kind, parts, tmp_path):
    net = livened(build(kind))
    hybrid = snnconvert.convert(net, [(images(4), [{}] * 4), images(4, 1)], FINE, progress=False)
    assert list(hybrid.parts) == parts
    assert hybrid.coverage == 1
    outside = {item.name: item.reason for item in hybrid.outside}
    for name, word in POST.items():
        assert name not in dict(net.named_modules()) or word in outside[name]
    assert_parts_follow(net, hybrid, images(3, 5), 20)
    # a size that the calibration images don't have
    other = [torch.rand(3, 50, 70)]
    expected, found = net(other), hybrid(other)
    assert [set(item) for item in found] == [set(item) for item in expected]
    assert all(item["boxes"].shape == (len(item["scores"]), 4) for item in found)
    hybrid.save(tmp_path / "net")
    again = snnconvert.HybridModel.load(tmp_path / "net", net)(other)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found, again, strict=True) for key in a)


@pytest.mark.slow
def test_compiled_a_detector_finds_the_same():
    net = livened(build("fasterrcnn"))
    hybrid = snnconvert.convert(net, [images(4)], FINE, progress=False)
    compiled = hybrid.compile("torch")
    assert list(compiled.parts) == list(hybrid.parts)
    for batch in (images(3, 5), [torch.rand(3, 50, 70)]):
        expected, found = hybrid(batch), compiled(batch)
        assert sum(len(item["scores"]) for item in expected)
        assert all(torch.equal(a[key], b[key]) for a, b in zip(expected, found, strict=True) for key in a)


def test_heads_share_one_network():
    """A head that is applied to each feature map is one network with one synapse a use."""
    net = build("retinanet")
    hybrid = snnconvert.convert(net, [images(4)], FINE, progress=False)
    layers = [layer for layer, _ in hybrid.parts["head"].synapses()]
    # two towers of four convolutions and one at their end, on two maps
    assert len(layers) == 2 * (4 + 1) * 2


@pytest.mark.slow
def test_no_detections_at_all():
    net = build("fasterrcnn")
    hybrid = snnconvert.convert(net, [images(4)], FINE, progress=False)
    hybrid.model.rpn.score_thresh = 2.0
    (found,) = hybrid(images(1))
    assert found["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    "item",
    mostly_slow(
        ["cat.png", [], torch.zeros(3), [torch.zeros(3)], {"a": 1}, [torch.full((3, 9, 9), torch.nan)]], keep=1
    ),
)
def test_items_that_are_no_images(item):
    with pytest.raises(InputError, match="batch 1"):
        snnconvert.convert(build("retinanet"), [images(2), item], FINE, progress=False)


def test_a_tensor_is_a_list_of_images():
    stacked = torch.stack([image[:, :48] for image in images(6)])
    hybrid = snnconvert.convert(build("retinanet"), stacked, FINE, progress=False)
    assert hybrid.report["backbone"].calibration_images == 6


def test_some_parts_only():
    net = build("fasterrcnn")
    config = snnconvert.ConversionConfig(bits=4, T=2, parts=("backbone.stem", "roi_heads.box_head"))
    hybrid = snnconvert.convert(net, [images(4)], config, progress=False)
    assert list(hybrid.parts) == ["backbone.stem", "roi_heads.box_head"]
    assert 0 < hybrid.coverage < 1
    assert "backbone.stage.0" in {item.name for item in hybrid.outside}


def test_masks(tmp_path):
    net = livened(build("maskrcnn"))
    hybrid = snnconvert.convert(net, [images(4)], FINE, progress=False)
    assert {"roi_heads.mask_head", "roi_heads.mask_predictor"} <= set(hybrid.parts)
    (found,) = hybrid(images(1, 3))
    assert found["masks"].shape[1] == 1
    assert found["masks"].shape[0] == len(found["boxes"])
    assert_parts_follow(net, hybrid, images(2, 5), 15)


@pytest.mark.slow
def test_keypoints():
    torch.manual_seed(0)
    tiny = build("fasterrcnn")
    net = torchvision.models.detection.KeypointRCNN(
        TinyBackbone(),
        2,
        num_keypoints=3,
        rpn_anchor_generator=tiny.rpn.anchor_generator,
        box_roi_pool=tiny.roi_heads.box_roi_pool,
        box_score_thresh=0.0,
        rpn_post_nms_top_n_test=10,
        box_detections_per_img=3,
        **SIZES,
    ).eval()
    hybrid = snnconvert.convert(net, [images(4)], FINE, progress=False)
    assert "roi_heads.keypoint_head" in hybrid.parts
    outside = {item.name: item.reason for item in hybrid.outside}
    assert ("roi_heads.keypoint_predictor" in hybrid.parts) != ("roi_heads.keypoint_predictor" in outside)
    (found,) = hybrid(images(1, 3))
    assert found["keypoints"].shape[1:] == (3, 3)


def segmentation(name):
    torch.manual_seed(0)
    builder = getattr(torchvision.models.segmentation, name)
    options = {} if name.startswith("lraspp") else {"aux_loss": True}
    return builder(weights=None, weights_backbone=None, num_classes=5, **options).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
@pytest.mark.parametrize("dynamic_sizes", [False, True])
def test_segmentation(name, dynamic_sizes):
    net = segmentation(name)
    x = torch.randn(4, 3, 64, 64)
    config = snnconvert.ConversionConfig(bits=4, T=2, dynamic_sizes=dynamic_sizes)
    snn = snnconvert.convert(net, x, config, progress=False)
    with torch.no_grad():
        expected, found = net(x), snn(x)
        assert type(found) is type(expected)
        assert list(found) == list(expected)
        assert all(decibels(expected[key], found[key]) > 15 for key in expected)
        if dynamic_sizes:
            other = torch.randn(1, 3, 96, 80)
            assert all(decibels(net(other)[key], value) > 10 for key, value in snn(other).items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "ssd300_vgg16",
        "ssdlite320_mobilenet_v3_large",
    ],
)
def test_detectors_of_torchvision(name):
    torch.manual_seed(0)
    builder = getattr(torchvision.models.detection, name)
    small = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 128}
    net = builder(weights=None, weights_backbone=None, num_classes=3, **small).eval()
    pictures = [torch.rand(3, 96, 96 + 16 * index) for index in range(2)]
    hybrid = snnconvert.convert(net, [pictures], FINE, progress=False)
    assert "backbone" in hybrid.parts
    assert hybrid.report["backbone"].fidelity.logit_sqnr_db > 5
    found = hybrid(pictures)
    assert all(item["boxes"].shape[1] == 4 for item in found)


CLASSIFIERS = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "maxvit_t", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32", "googlenet", "inception_v3",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_all_of_every_classifier_runs_on_spikes(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    net = torchvision.models.get_model(name, weights=None, **options).eval()
    side = 299 if name == "inception_v3" else 224
    plan = snnconvert.plan(net, torch.zeros(2, 3, side, side))
    assert plan.coverage == 1
    modules = [
        module for module in net.modules() if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))
    ]
    auxiliary = [module for key, module in net.named_modules() if key.lower().startswith("aux") and module in modules]
    assert len(plan.synapses) >= len(modules) - len(auxiliary)
