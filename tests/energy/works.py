"""Layers at work with known numbers."""

from snnconvert.energy.workload import LayerWork, Workload


def rate_coded(T, rate, *, fan_in=2395, weight_bits=8, ann_density=None, macs=1000):
    """T binary steps at one rate; words are as busy as Yan et al. take them in the mean: 2·T·rate/(T + 1)."""
    return LayerWork(
        name="layer",
        macs=macs,
        fan_in=fan_in,
        inputs=10,
        outputs=10,
        weights=100,
        weight_bits=weight_bits,
        spike_bits=1,
        T=T,
        levels=T + 1,
        firing_rate=rate,
        bit_density=rate,
        word_density=min(2 * T * rate / (T + 1), 1.0),
        ann_density=ann_density,
    )


def packed(name="layer", *, T=4, bits=2, weight_bits=8, bit_density=0.25, word_density=0.6, macs=1000, fan_in=64):
    """A window of T·bits binary steps as one word."""
    return LayerWork(
        name=name,
        macs=macs,
        fan_in=fan_in,
        inputs=20,
        outputs=30,
        weights=100,
        weight_bits=weight_bits,
        spike_bits=bits,
        T=T,
        levels=1 << (bits * T),
        firing_rate=0.4,
        bit_density=bit_density,
        word_density=word_density,
    )


def network(*layers, **operations):
    return Workload(tuple(layers), **operations)
