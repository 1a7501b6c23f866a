"""Large batches in portions: how large these are, and that nobody can tell."""

import pytest
import torch
from engine_networks import conv
from integer_networks import RUNTIMES
from torch import nn

import snnconvert
from snnconvert.engines.integer.dialect import ONNXRUNTIME
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.portions import in_portions, macs_of_samples, portion_of

MACS = 8 * 3 * 9 * 64 + 5 * 8


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = conv(3, 8), nn.Linear(8, 5)

    def forward(self, x, factor):
        y = torch.relu(self.conv(x)) * factor
        return {"logits": self.fc(y.mean((2, 3))), "map": y}


class WithAnchors(TwoOutputs):
    def forward(self, x, factor):
        return self.fc((torch.relu(self.conv(x)) * factor).mean((2, 3))), factor + 1


def converted(network=TwoOutputs):
    torch.manual_seed(0)
    net = network().eval()
    images, factor = torch.randn(19, 3, 8, 8), torch.full((1, 8, 1, 1), 0.5)
    return snnconvert.convert(net, [snnconvert.Inputs(images[:8], factor)], progress=False), images, factor


def portion(snn, threads):
    model = integer_model(snn.network, snn.signature, ONNXRUNTIME).model
    return portion_of(macs_of_samples(snn.network, snn.signature, model), threads)


@pytest.mark.parametrize("engine", RUNTIMES)
def test_outputs_are_those_of_the_whole_batch(engine):
    pytest.importorskip(engine)
    snn, images, factor = converted()
    compiled = snn.compile(engine, threads=1, cache=False)
    whole = compiled(images, factor)
    compiled.portion = 4
    found, expected = compiled(images, factor), snn(images, factor)
    assert found.keys() == expected.keys()
    for name, output in found.items():
        assert torch.equal(output, whole[name])
        torch.testing.assert_close(output, expected[name], rtol=1e-5, atol=1e-6)


def test_portions_are_few_and_nearly_as_large_as_each_other():
    snn, images, factor = converted()
    sizes = []

    def run(leaves):
        assert leaves[1] is factor
        sizes.append(len(leaves[0]))
        return [leaves[0] * 2]

    (doubled,) = in_portions(run, (images, factor), snn.signature, 8)
    assert sizes == [7, 6, 6]
    assert torch.equal(doubled, images * 2)
    in_portions(run, (images[:8], factor), snn.signature, 8)
    assert sizes[3:] == [8]


def test_portions_have_work_for_every_thread():
    snn, _, _ = converted()
    assert portion(snn, 1) == -(-8_000_000_000 // MACS)
    assert portion(snn, 3) == -(-24_000_000_000 // MACS)


def test_a_network_with_an_output_that_has_no_batch_runs_whole():
    snn, _, _ = converted(WithAnchors)
    assert portion(snn, 1) is None


def test_an_engine_of_one_batch_size_runs_it_whole():
    snn, images, factor = converted()
    assert snn.compile("onnxruntime", threads=1, cache=False).portion == portion(snn, 1)
    compiled = snn.compile("onnxruntime", threads=1, batch=19, cache=False)
    assert compiled.portion is None
    assert len(compiled(images, factor)["logits"]) == 19
