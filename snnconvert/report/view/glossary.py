"""The terms a report uses."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("ANN", "the original network, in floating point; in energies also rounded to 8 bits."),
    ("SNN", "the spiking network it became: neurons fire spikes of b_s bits in T time steps."),
    (
        "bit by bit, packed",
        "two ways to run it: every bit of a spike as an event of its own, or a neuron's whole window as one integer, "
        "nothing where that is zero. Both compute the same.",
    ),
    (
        "twin QNN",
        "the quantized network with the SNN's weights and as many activation levels: what the SNN has to be compared "
        "with, since any network may be quantized.",
    ),
    ("b_w, b_s, T", "bits of a weight, bits of a spike, time steps of a window."),
    ("bit budget (BB)", "b_w × b_s × T: bits that a multiply-accumulate of the layer gets to see."),
    ("MAC", "multiply-accumulate, counted once for an image, whatever T is."),
    ("S-ACE", "MACs × BB: arithmetic effort in pairs of bits (Shen et al., CVPR 2024)."),
    ("NS-ACE", "S-ACE × share of spikes that are not zero."),
    ("SynOps", "synaptic operations: a spike that is not zero meets a weight."),
    ("rate", "share of spikes that are not zero, over neurons and time steps."),
    ("word, bit sparsity", "share of neurons silent for a window, and share of zeros among all bits sent."),
    ("SQNR", "signal-to-quantization-noise ratio in dB: 20 dB is an error of a tenth, 40 dB of a hundredth."),
    ("break-even", "share of ones among the bits sent below which the SNN, bit by bit, takes less than its rival."),
    ("step, clipped", "what one integer step of a neuron stands for; values beyond its range become the range's ends."),
    ("analog", "layers that stay as they are in the ANN, in floating point."),
)
