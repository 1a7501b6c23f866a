import dataclasses

import numpy as np
import pytest
import torch

from snnconvert.errors import InputError
from snnconvert.plots.raster import network_raster, spike_raster
from snnconvert.plots.recorded import evenly_spaced

CODES = ["packed", "if", "multithreshold"]


def drawn(image):
    return np.ma.getmaskarray(image.get_array())


@pytest.mark.parametrize("code", CODES)
def test_cells_are_the_recorded_spikes_of_the_chosen_neurons_at_their_ticks(simulations, code):
    simulation = simulations[code]
    record = simulation.layers["3"]
    axes = spike_raster(simulation, "3", sample=2, neurons=30).axes[0]
    (image,) = axes.images
    spikes = record.spikes[:, 2].flatten(1)
    chosen = evenly_spaced(spikes.shape[1], 30)
    assert len(chosen) == 30
    assert np.array_equal(~drawn(image), (spikes[:, chosen].T != 0).numpy())
    left, right, bottom, top = image.get_extent()
    assert (left, right) == (record.start - 0.5, record.start + record.code.T - 0.5)
    assert (bottom, top) == (-0.5, 29.5)


def test_every_spike_value_has_a_colour_of_its_own(simulations):
    simulation = simulations["multithreshold"]
    (image,) = spike_raster(simulation, "3", neurons=10_000).axes[0].images
    spikes = simulation.layers["3"].spikes[:, 0].flatten(1).T.numpy()
    colours = image.to_rgba(image.get_array())
    by_value = {int(value): {tuple(colour) for colour in colours[spikes == value]} for value in np.unique(spikes)}
    by_value.pop(0)
    assert len(by_value) > 3
    assert all(len(found) == 1 for found in by_value.values())
    assert len({next(iter(found)) for found in by_value.values()}) == len(by_value)
    for value, found in by_value.items():
        red, _, blue, _ = next(iter(found))
        assert (red > blue) == (value > 0)


@pytest.mark.parametrize("code", CODES)
def test_the_title_names_code_and_firing_rate(simulations, code):
    simulation = simulations[code]
    axes = spike_raster(simulation, "1", sample=1).axes[0]
    rate = float((simulation.layers["1"].spikes[:, 1] != 0).double().mean())
    title = axes.get_title(loc="left")
    assert code in title
    assert f"{100 * rate:.0f} %" in title


def test_binary_spikes_need_no_colour_bar_and_graded_ones_get_one(simulations):
    assert len(spike_raster(simulations["if"], "3").axes) == 1
    assert len(spike_raster(simulations["packed"], "3").axes) == 2


def test_the_network_shows_every_layer_at_its_ticks(simulations):
    simulation = simulations["packed"]
    axes = network_raster(simulation, neurons_per_layer=7).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*simulation.layers, "readout"]
    for row, (image, record) in enumerate(zip(axes.images, simulation.layers.values(), strict=True)):
        left, right, bottom, top = image.get_extent()
        assert (left, right) == (record.start - 0.5, record.start + record.code.T - 0.5)
        assert row < bottom < top < row + 1
        spikes = record.spikes[:, 0].flatten(1)
        assert np.array_equal(~drawn(image), (spikes[:, evenly_spaced(spikes.shape[1], 7)].T != 0).numpy())
    assert axes.get_xlim() == (-0.5, simulation.ticks - 0.5)


def test_labels_of_twenty_layers_do_not_overlap(simulations):
    simulation = simulations["multithreshold"]
    records = list(simulation.layers.values())
    layers = {f"encoder.layers.{index}.intermediate.activation": records[index % 3] for index in range(20)}
    figure = network_raster(dataclasses.replace(simulation, layers=layers))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 21
    assert all(not box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    assert figure.get_size_inches()[1] < 4.2
    title = figure.axes[0].title.get_window_extent()
    assert title.x1 <= figure.bbox.x1


def test_silent_layers_and_single_neurons_are_drawn(simulations):
    simulation = simulations["if"]
    silent = dataclasses.replace(simulation.layers["1"], spikes=torch.zeros(8, 2, 1, dtype=torch.uint8))
    simulation = dataclasses.replace(simulation, layers={"1": silent})
    (image,) = spike_raster(simulation, "1").axes[0].images
    assert drawn(image).all()
    assert len(network_raster(simulation).axes[0].images) == 1


def test_wide_spikes_are_coloured_in_proportion(simulations):
    spikes = torch.arange(-100, 100, dtype=torch.int8).view(8, 1, 25)
    record = dataclasses.replace(simulations["if"].layers["1"], spikes=spikes)
    simulation = dataclasses.replace(simulations["if"], layers={"1": record})
    figure = spike_raster(simulation, "1")
    (image,) = figure.axes[0].images
    assert np.allclose(image.get_array().compressed(), [v / 100 for v in spikes[:, 0].T.flatten().tolist() if v])
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["−100", "−50", "0", "50", "100"]


def test_what_can_not_be_drawn_is_named(converted, simulations):
    networks, images = converted
    with pytest.raises(InputError, match=r"no neuron layer is called 'nope' \(there are .*1, 3"):
        spike_raster(simulations["if"], "nope")
    with pytest.raises(InputError, match=r"sample 5 is not among the 5.*0\.\.4"):
        spike_raster(simulations["if"], "1", sample=5)
    with pytest.raises(InputError, match="at least one neuron"):
        spike_raster(simulations["if"], "1", neurons=0)
    bare = networks["if"].simulate(images[:1], record={"spikes": "3"})
    with pytest.raises(InputError, match=r'1: its spikes were not recorded: .*record="spikes"'):
        spike_raster(bare, "1")
    assert len(network_raster(bare).axes[0].images) == 1
    with pytest.raises(InputError, match="no spikes were recorded"):
        network_raster(networks["if"].simulate(images[:1]))
