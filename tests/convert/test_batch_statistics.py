import pytest
import torch
from torch import nn

from snnconvert.convert.batch_statistics import known_nodes
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import capture

X = torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 + 0.5


class Net(nn.Module):
    """BatchNorms behind a convolution, a sum, a concat and a linear layer, and one with a scale behind it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.up, self.bn2 = nn.ConvTranspose2d(6, 4, 2, stride=2), nn.BatchNorm2d(4, affine=False)
        self.bn3, self.bn4 = nn.BatchNorm2d(6), nn.BatchNorm2d(12)
        self.fc, self.bn5 = nn.Linear(16, 5), nn.BatchNorm1d(5)
        self.register_buffer("gain", torch.tensor([1.0, -2.0, 0.5, 3.0]).view(4, 1, 1))

    def forward(self, x):
        first = self.bn1(self.conv(x))
        summed = self.bn3(torch.relu(first) + first)
        joined = self.bn4(torch.cat([torch.relu(summed), torch.relu(first)], 1))
        scaled = self.bn2(self.up(torch.relu(first))) * self.gain
        means = torch.cat([torch.relu(scaled).mean((2, 3)), joined.mean((2, 3))], 1)
        return self.bn5(self.fc(means))


def trained(net, x):
    """Gives every BatchNorm random weights and the statistics of exactly these inputs."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
            if module.affine:
                nn.init.uniform_(module.weight, -1, 2, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    with torch.no_grad():
        net.train()(x)
    return net.eval()


def test_known_statistics_are_those_of_the_values():
    torch.manual_seed(0)
    net = trained(Net(), X)
    graph = canonicalize(capture(net, X))
    known = known_nodes(graph.graph)
    assert len(known) == 5
    seen = values_of(graph, X)
    for name, statistics in known.items():  # in training, a BatchNorm divides by the biased variance
        value = seen[name].transpose(0, 1).flatten(1).double()
        torch.testing.assert_close(statistics.mean, value.mean(1), rtol=0.01, atol=0.01)
        torch.testing.assert_close(statistics.variance, value.var(1), rtol=0.01, atol=0.01)


def values_of(graph, x):
    seen = {}

    class Keeper(torch.fx.Interpreter):
        def run_node(self, n):
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    with torch.no_grad():
        Keeper(graph).run(x)
    return seen


@pytest.mark.parametrize("trained_on", [None, X])
def test_a_batchnorm_that_never_ran_knows_nothing(trained_on):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    if trained_on is not None:
        trained(net, trained_on)
    assert len(known_nodes(canonicalize(capture(net.eval(), X)).graph)) == (trained_on is not None)


def test_a_batchnorm_that_was_made_the_identity_knows_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    nn.init.constant_(net[1].running_var, 1 - net[1].eps)
    nn.init.normal_(net[1].bias, generator=torch.Generator().manual_seed(0))
    assert known_nodes(canonicalize(capture(net, X)).graph) == {}
