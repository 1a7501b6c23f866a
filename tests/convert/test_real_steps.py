"""Real numbers in neurons' steps: one product instead of two, and nothing else changes."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

import snnconvert
from snnconvert.convert.real_steps import read_in_steps
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import TableTransfer


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.up, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        y = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(F.gelu(self.up(y).transpose(1, 2)).transpose(1, 2)).mean(1)


def converted():
    torch.manual_seed(0)
    tokens = torch.randn(16, 5, 8)
    return snnconvert.convert(Attention().eval(), tokens, progress=False), tokens


def in_two_products(network):
    """The network with real numbers in another unit, which the neurons that read them multiply by a gain again."""
    twice = copy.deepcopy(network)
    modules = {node: twice.get_submodule(node.target) for node in twice.graph.nodes if node.op == "call_module"}
    changed = set()
    for node, module in modules.items():
        readers = [modules[reader] for reader in _readers(node, modules)]
        if isinstance(module, ToReal) and readers and all(bool((reader.gain == 1).all()) for reader in readers):
            module.unit = module.unit * 0.37
            changed.add(node.meta["layer"])
            for reader in readers:
                reader.gain = reader.gain / 0.37
    assert changed == {"qkv", "matmul#2", "up"}
    return twice


def _readers(node, modules):
    for user in node.users:
        if isinstance(modules.get(user), SpikingNeuron | TableTransfer):
            yield user
        elif user.op == "call_function":
            yield from _readers(user, modules)


def test_potentials_are_the_same_up_to_rounding():
    snn, tokens = converted()
    twice = in_two_products(snn.network)
    before = copy.deepcopy(twice.state_dict())
    once = read_in_steps(twice, snn.signature)
    assert once is not twice
    assert all(torch.equal(value, before[name]) for name, value in twice.state_dict().items())
    torch.testing.assert_close(once(tokens), snn.network(tokens), rtol=1e-5, atol=1e-5)
    units = {name: module.unit for name, module in once.named_modules() if isinstance(module, ToReal)}
    for name, unit in units.items():
        torch.testing.assert_close(unit, snn.network.get_submodule(name).unit, rtol=1e-6, atol=0)


def test_other_modules_are_shared():
    snn, _ = converted()
    twice = in_two_products(snn.network)
    once = read_in_steps(twice, snn.signature)
    own = {name for name, module in once.named_children() if module is not twice.get_submodule(name)}
    assert own
    assert all(isinstance(once.get_submodule(name), ToReal | SpikingNeuron | TableTransfer) for name in own)


def test_networks_without_moves_stay_what_they_are():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    snn = snnconvert.convert(net, torch.randn(8, 3, 8, 8), progress=False)
    assert read_in_steps(snn.network, snn.signature) is snn.network


def test_time_tells_the_same():
    snn, tokens = converted()
    torch.testing.assert_close(snn.simulate(tokens).output, snn(tokens), rtol=1e-5, atol=1e-5)
