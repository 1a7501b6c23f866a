import numpy as np
import pytest

from snnconvert.errors import InputError
from snnconvert.plots.rates import rate_histogram


def test_rows_are_histograms_of_the_neurons_rates_with_their_mean(simulations):
    simulation = simulations["packed"]
    axes = rate_histogram(simulation).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(simulation.layers)
    rows = zip(axes.patches, axes.lines, simulation.layers.values(), strict=True)
    for index, (patch, line, record) in enumerate(rows):
        rates = 100 * (record.spikes != 0).flatten(2).double().mean((0, 1)).numpy()
        values, edges, baseline = patch.get_data()
        counts, _ = np.histogram(rates, edges)
        assert np.allclose((values - baseline) / (values - baseline).max(), counts / counts.max())
        assert counts.sum() == len(rates)
        assert np.allclose(line.get_xdata(), rates.mean())
        assert np.isclose(rates.mean() / 100, record.firing_rate)
        assert baseline == 2 - index


def test_layers_can_be_chosen(simulations):
    axes = rate_histogram(simulations["if"], layers=["3"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["3"]


def test_missing_spikes_are_named(converted, simulations):
    networks, images = converted
    with pytest.raises(InputError, match="no neuron layer is called 'nope'"):
        rate_histogram(simulations["if"], layers=["nope"])
    with pytest.raises(InputError, match='no spikes were recorded: call simulate\\(images, record="spikes"\\)'):
        rate_histogram(networks["if"].simulate(images[:1], record="counts"))
