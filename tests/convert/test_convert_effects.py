"""Models that draw random numbers, keep state or are no Python: refused by name, or captured without their writes."""

import pytest
import torch
import torch.nn.functional as F
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.convert.capture import capture
from snnconvert.errors import ConversionError

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4))
        self.eval()

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class Counting(Small):
    def forward(self, x):
        self.count += 1
        y = F.relu(self.conv(x))
        self.mean.copy_(0.9 * self.mean + 0.1 * y.mean((0, 2, 3)))
        return self.head(y.mean((2, 3)))


class Streaming(Small):
    def forward(self, x):
        self.count += 1
        return super().forward(x) * self.count


class Noisy(Small):
    def forward(self, x):
        return super().forward(x + 1e-6 * torch.randn_like(x))


class DropPath(Small):
    def forward(self, x):
        return super().forward(x) * (torch.rand(x.shape[0], 1) < 2)


class AlwaysDropout(Small):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5, training=True))


def test_writes_that_nothing_depends_on_are_dropped(tmp_path):
    model = Counting()
    snn = snnconvert.convert(model, X, progress=False)
    assert float(model.count) == 0
    snn.save(tmp_path / "net")
    assert torch.equal(snnconvert.load(tmp_path / "net")(X), snn(X))


def test_state_that_the_output_depends_on_is_refused():
    with pytest.raises(ConversionError, match="Streaming keeps state: its output depends on count"):
        capture(Streaming(), X)


@pytest.mark.parametrize("kind", [Noisy, DropPath, AlwaysDropout])
def test_random_numbers_are_refused_however_small_their_effect(kind):
    with pytest.raises(ConversionError, match=f"{kind.__name__} draws random numbers at inference"):
        capture(kind(), X)


@pytest.mark.parametrize(
    "layer",
    mostly_slow([nn.Dropout(0.5), nn.RReLU(), nn.AlphaDropout(0.2), nn.Dropout2d(0.9)], keep=2),
    ids=lambda layer: str(layer),
)
def test_layers_that_are_random_in_training_only_are_captured(layer):
    capture(nn.Sequential(nn.Conv2d(3, 4, 3), layer).eval(), X)


def test_scripted_modules_are_refused_by_name():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1)))).eval()
    with pytest.raises(ConversionError, match=r"^1 is a TorchScript module"):
        capture(net, X)
    with pytest.raises(ConversionError, match="TorchScript module"):
        capture(torch.jit.trace(Small(), X), X)


def test_weights_with_a_history_can_be_copied():
    """The weight of torch.nn.utils.weight_norm is a plain tensor with a history, which deepcopy refuses."""
    net = nn.Sequential(torch.nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    assert net[0].weight.grad_fn is not None
    snn = snnconvert.convert(net, X, progress=False)
    with torch.no_grad():
        expected = net(X)
    assert (snn(X) - expected).square().sum() < 1e-2 * expected.square().sum()


def test_operators_without_a_shape_rule_are_told_so():
    torch.library.define("snnconvert_tests::double", "(Tensor x) -> Tensor")
    torch.library.impl("snnconvert_tests::double", "CPU", lambda x: 2 * x)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Lambda(torch.ops.snnconvert_tests.double)).eval()
    with pytest.raises(ConversionError, match=r"torch can't tell the shape of the result of snnconvert_tests\.double"):
        capture(net, X)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
