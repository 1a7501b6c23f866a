import pytest
import torch
from torch import nn

from snnconvert.calibration.statistics.collect import Collector
from snnconvert.convert.capture import capture_call
from snnconvert.errors import ConversionError, InputError

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def collect(captured, batches):
    collector = Collector(captured.graph, captured.signature, sites_of(captured.graph), CPU)
    for batch in batches:
        collector.update((batch,))
    return collector.statistics()


def sites_of(graph):
    return {node.name: f"layer {node.name}" for node in graph.graph.nodes if "relu" in str(node.target)}


def test_statistics_are_those_of_the_activations(net):
    images = torch.randn(20, 1, 6, 6)
    captured = capture_call(net, images)
    (name,) = sites_of(captured.graph)
    found = collect(captured, images.split(7))
    histograms, (sample,), count = found.histograms, found.sample, found.count
    with torch.no_grad():
        activation = torch.relu(net.conv(images))
    assert count == 20
    assert len(sample) == 20
    assert histograms[name].maximum == pytest.approx(float(activation.max()), rel=1e-5)
    assert histograms[name].minimum == 0.0
    assert int(histograms[name].counts.sum()) == activation.numel()
    assert histograms[name].quantile(0.9) == pytest.approx(float(activation.quantile(0.9)), rel=0.04)


def test_an_empty_loader_is_refused(net):
    captured = capture_call(net, torch.randn(2, 1, 6, 6))
    with pytest.raises(InputError, match="empty"):
        collect(captured, [])


def test_one_size_only(net):
    captured = capture_call(net, torch.randn(2, 1, 6, 6))
    with pytest.raises(InputError, match=r"\(2, 1, 7, 7\).*\(1, 6, 6\)"):
        collect(captured, [torch.randn(2, 1, 6, 6), torch.randn(2, 1, 7, 7)])


def test_exploding_activations_name_their_layer(net):
    captured = capture_call(net, torch.randn(2, 1, 6, 6))
    huge = torch.full((1, 1, 6, 6), 3e38) * torch.sign(net.conv.weight.detach()[0].mean())
    with pytest.raises(ConversionError, match=r"^layer .*: activations reach NaN or Inf"):
        collect(captured, [huge, -huge])
