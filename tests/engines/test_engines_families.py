"""Step by step is packed in networks people use: families of timm with random weights, and trained CIFAR ResNets."""

import pytest
import torch
from engine_networks import assert_same_run, assert_stepwise_is_packed
from torch import nn

import snnconvert
from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.random_networks import RandomImages
from benchmarks.real_data import VARIABLE, data_folder

pytestmark = pytest.mark.slow

CONVOLUTIONAL = [
    "resnet10t", "resnet18", "resnetv2_18", "seresnet18", "skresnet18", "resnest14d", "res2next50", "tresnet_m",
    "mobilenetv2_035", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mnasnet_small", "hardcorenas_a",
    "efficientnet_lite0", "efficientnet_b0", "rexnet_100", "ghostnet_050", "repghostnet_050", "vgg11", "densenet121",
    "dpn48b", "dla46x_c", "hrnet_w18_small", "regnetx_002", "regnety_002", "nf_regnet_b0", "repvgg_a0", "mobileone_s0",
    "repvit_m1", "ese_vovnet19b_slim_dw", "selecsls42", "cs3darknet_focus_s", "xception41p", "starnet_s050",
    "fasternet_t0", "hgnetv2_b0", "convnext_atto", "convnextv2_atto", "inception_next_atto", "convmixer_768_32",
    "poolformerv2_s12", "fastvit_t8", "mobilevit_xxs", "edgenext_xx_small",
]  # fmt: skip
OF_SIDE = {"inception_v3": 96, "swin_tiny_patch4_window7_224": 224, "efficientformer_l1": 224, "levit_128s": 224}
OF_ANY_SIDE = [
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "cait_xxs24_224", "xcit_nano_12_p8_224", "mixer_s32_224",
    "resmlp_12_224", "convit_tiny", "gmlp_ti16_224", "pit_ti_224", "swinv2_tiny_window8_256", "maxvit_pico_rw_256",
]  # fmt: skip
FAMILIES = {
    **{name: (64, {}) for name in CONVOLUTIONAL},
    **{name: (side, {}) for name, side in OF_SIDE.items()},
    **{name: (64, {"img_size": 64}) for name in OF_ANY_SIDE},
}


def random_network(name, side, **settings):
    """A network with random weights, none of them zero, whose BatchNorm statistics are those of its activations."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, **settings).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
        if not norm.weight.any():
            nn.init.ones_(norm.weight)
    with torch.no_grad():
        for batch in RandomImages(8, 8, side, 1) if norms else ():
            network(batch)
    return network.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_networks(name):
    side, settings = FAMILIES[name]
    (images,) = RandomImages(4, 4, side, 2)
    config = snnconvert.ConversionConfig(bits=2, T=4, threshold="percentile")
    snn = snnconvert.convert(random_network(name, side, **settings), images, config, progress=False)
    simulation = assert_stepwise_is_packed(snn, images[:1])
    assert_same_run(simulation, snn.simulate(images[:1], record=("spikes",), schedule="tick"))
    assert simulation.output.std() > 0
    assert sum(int(record.spikes.any()) for record in simulation.layers.values()) > 0.9 * len(simulation.layers)


@pytest.fixture(scope="module", params=[20, 44])
def trained(request):
    folder = data_folder("cifar10")
    if folder is None:
        pytest.skip(f"no cifar10 data: set {VARIABLE} to the folder that holds cifar10/")
    calibration, _ = load_cifar_images(folder, "train", 256)
    images, labels = load_cifar_images(folder, "test", 50)
    return load_cifar_resnet(folder, request.param), calibration, images, labels


@pytest.mark.parametrize(("bits", "T"), [(1, 8), (2, 4), (8, 1)])
def test_trained_networks_on_real_images(trained, bits, T):
    ann, calibration, images, labels = trained
    snn = snnconvert.convert(ann, calibration, snnconvert.ConversionConfig(bits=bits, T=T), progress=False)
    for schedule in ("layer", "tick"):
        simulation = assert_stepwise_is_packed(snn, images, schedule=schedule)
    assert (simulation.output.argmax(1) == labels).double().mean() > 0.85


def test_trained_networks_that_count_spikes(trained):
    """Schedules agree on a rate code, and waiting for the window brings it to the closed form."""
    ann, calibration, images, labels = trained
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=24)
    snn = snnconvert.convert(ann, calibration[:64], config, progress=False)
    for latency in ("streaming", "window"):
        asked = {"record": ("counts", "unevenness"), "latency": latency}
        runs = [snn.simulate(images[:8], schedule=schedule, **asked) for schedule in ("layer", "tick")]
        assert_same_run(*runs)
    with torch.no_grad():
        assert torch.equal(runs[0].output, snn.network(images[:8]))
    assert (runs[0].output.argmax(1) == labels[:8]).double().mean() > 0.6
