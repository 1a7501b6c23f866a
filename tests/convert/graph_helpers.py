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
