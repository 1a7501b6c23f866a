import pytest
import torch

import snnconvert
from snnconvert.convert.structure import Record

transformers = pytest.importorskip("transformers")
FINE = snnconvert.ConversionConfig(bits=4, T=2, weight_bits=8)
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))


def deit():
    return transformers.DeiTForImageClassification(transformers.DeiTConfig(**VIT))


def resnet():
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**RESNET, num_labels=5))


def swin():
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=5
    )
    return transformers.SwinForImageClassification(config)


def segformer():
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def detr():
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=transformers.ResNetConfig(**RESNET, out_features=["stage4"]),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=5,
        num_labels=4,
    )
    return transformers.DetrForObjectDetection(config)


def converted(build, size):
    torch.manual_seed(0)
    net = build().eval()
    pixels = torch.randn(8, 3, size, size)
    loader = [{"pixel_values": part, "labels": torch.zeros(len(part))} for part in pixels.split(4)]
    return net, snnconvert.convert(net, loader, FINE, progress=False), pixels


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (vit, 32),
        (resnet, 32),
        pytest.param(deit, 32, marks=pytest.mark.slow),
        pytest.param(swin, 32, marks=pytest.mark.slow),
        pytest.param(segformer, 64, marks=pytest.mark.slow),
        pytest.param(detr, 64, marks=pytest.mark.slow),
    ],
)
def test_models_are_converted_whole(build, size, tmp_path):
    net, snn, pixels = converted(build, size)
    with torch.no_grad():
        expected, found = net(pixel_values=pixels), snn(pixel_values=pixels)
    assert type(found) is type(expected)
    assert list(found) == list(expected)
    assert torch.equal(found[0], found.logits)
    assert found.loss is None
    assert snn.report.fidelity.logit_sqnr_db > 20
    noise = float((expected.logits - found.logits).square().sum())
    assert float(expected.logits.square().sum()) > 100 * noise
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")(pixels)
    assert isinstance(loaded, Record)
    assert list(loaded) == list(found)
    assert torch.equal(loaded.logits, found.logits)
    assert torch.equal(loaded[0], found.logits)
    assert loaded.loss is None


@pytest.mark.slow
def test_detr_takes_a_mask_of_pixels():
    torch.manual_seed(0)
    net, pixels = detr().eval(), torch.randn(6, 3, 64, 64)
    mask = torch.ones(6, 64, 64, dtype=torch.int64)
    mask[:, :, 48:] = 0
    items = [{"pixel_values": pixels, "pixel_mask": mask, "labels": [{}] * 6}]
    snn = snnconvert.convert(net, items, FINE, progress=False)
    assert [spec.name for spec in snn.signature.tensors] == ["pixel_values", "pixel_mask"]
    with torch.no_grad():
        expected, found = net(pixels, mask), snn(pixels, pixel_mask=mask)
    noise = float((expected.logits - found.logits).square().sum())
    assert float(expected.logits.square().sum()) > 100 * noise


@pytest.mark.slow
def test_options_are_constants():
    torch.manual_seed(0)
    net, pixels = vit().eval(), torch.randn(8, 3, 32, 32)
    items = [snnconvert.Inputs(pixel_values=pixels, output_hidden_states=True)]
    snn = snnconvert.convert(net, items, FINE, progress=False)
    found = snn(pixels)
    assert len(found.hidden_states) == 3
    assert type(found) is type(net(pixels))
