"""What the tests of the graph share: small networks from functions, captures and counts."""

import torch
from torch import nn

from snnconvert.config import ConversionConfig
from snnconvert.convert.canonical import canonicalize
from snnconvert.convert.capture import capture
from snnconvert.convert.planner import make_plan


class Net(nn.Module):
    """A network from named modules and a function forward(net, x)."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            setattr(self, name, module)
        self.eval()

    def forward(self, x):
        return self.function(self, x)


def side_by_side(functions, modules):
    """One network of many small ones, function(net, module(x)) each: a capture takes most of a test's time."""

    def forward(net, x):
        outputs = [function(net, module(x)) for function, module in zip(functions, net.parts, strict=True)]
        return torch.cat([output.flatten(1) for output in outputs], 1)

    return Net(
        forward, parts=nn.ModuleList(modules), functions=nn.ModuleList(f for f in functions if isinstance(f, nn.Module))
    )


def norm(channels, cls=nn.BatchNorm2d, **options):
    """A normalization with statistics and parameters as after training."""
    module = cls(channels, **options)
    generator = torch.Generator().manual_seed(channels)
    if module.running_mean is not None:
        module.running_mean.copy_(torch.randn(channels, generator=generator))
        module.running_var.copy_(torch.rand(channels, generator=generator) + 0.3)
    if module.weight is not None:
        with torch.no_grad():
            module.weight.copy_(torch.randn(channels, generator=generator))
            module.bias.copy_(torch.randn(channels, generator=generator))
    return module.eval()


def count(graph_module, *words):
    """Number of computing nodes whose operator's name contains one of the words."""
    return sum(
        any(word in str(node.target) or word in getattr(node.target, "__name__", "") for word in words)
        for node in graph_module.graph.nodes
        if node.op == "call_function"
    )


def canonical(net, example):
    return canonicalize(capture(net, example))


def plan_of(net, example, **settings):
    return make_plan(canonical(net, example), ConversionConfig(**settings))


def residual(forward):
    """Four convolutions and a linear layer, called as told; the same weights every time."""
    torch.manual_seed(0)
    convs = {f"conv{i}": nn.Conv2d(3 if i == 1 else 8, 8, 3, padding=1) for i in (1, 2, 3, 4)}
    return Net(forward, **convs, fc=nn.Linear(8, 10))


def rectified(net, x):
    x = torch.relu(net.conv1(x))
    x = torch.relu(net.conv2(x) + x)
    return net.fc(torch.relu(net.conv3(x) + net.conv4(x)).mean((2, 3)))


def linear_bottlenecks(net, x):
    x = net.conv1(x)
    x = x + net.conv2(torch.relu(x))
    x = x + net.conv3(torch.relu(x))
    return net.fc(torch.relu(net.conv4(x)).mean((2, 3)))
