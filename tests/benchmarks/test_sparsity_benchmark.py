import pytest
import torch
from torch import nn

import snnconvert
from benchmarks.sparsity_runs import ann_densities, closed_form_decisions, paper_ratio, run_in_time


@pytest.mark.parametrize(("sparsity", "ratio"), [(0.9419, 0.78), (0.9486, 0.69)])
def test_the_papers_formula_gives_the_papers_ratios(sparsity, ratio):
    assert paper_ratio(1 - sparsity, 6) == pytest.approx(ratio, abs=0.003)


def test_a_network_that_waits_for_its_window_decides_by_its_closed_form():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4))
    images = torch.randn(60, 3, 6, 6)
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=6)
    snn = snnconvert.convert(ann.eval(), images, config, progress=False)
    run = run_in_time(snn, images, "window")
    assert torch.equal(run.decisions, closed_form_decisions(snn, images))
    layers = list(snn.simulate(images, record="counts", latency="window").layers.values())[1:]
    rates = [layer.firing_rate for layer in layers]
    sizes = [layer.neurons for layer in layers]
    assert run.rate == pytest.approx(sum(rate * size for rate, size in zip(rates, sizes, strict=True)) / sum(sizes))
    read = {layer.name: layer.firing_rate for layer in run.layers}
    assert [read["2"], read["5"]] == pytest.approx(rates)


def test_densities_are_shares_of_values_that_are_not_zero():
    ann = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1))
    nn.init.ones_(ann[0].weight)
    images = torch.tensor([-1.0, 2.0, -3.0, -4.0]).view(1, 1, 2, 2)
    assert ann_densities(ann, images) == {"0": 1.0, "2": 0.25}
