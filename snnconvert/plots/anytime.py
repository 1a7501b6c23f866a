"""Anytime accuracy: what the network would have answered at every tick of its readout."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

from snnconvert.engines.timeline import Latency
from snnconvert.in_time import AnytimeCurve, measure_in_time
from snnconvert.spiking_model import SpikingModel

_Z95 = 1.959963984540054


def anytime_accuracy(
    snn: SpikingModel, batches: Iterable[tuple[Tensor, Tensor | None]], *, latency: Latency = "streaming"
) -> AnytimeCurve:
    """Accuracy and agreement at every tick of the readout; the counts don't depend on the batches.

    Args:
        snn: the spiking network.
        batches: as for :func:`~snnconvert.in_time.measure_in_time`.
        latency: see :meth:`~snnconvert.spiking_model.SpikingModel.simulate`.

    Raises:
        InputError: if there are no images, labels don't fit them, or the output isn't [N, classes].
    """
    return measure_in_time(snn, batches, latency=latency).curve


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share seen in ``count`` trials.

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96.
    """
    spread = _Z95**2 / count
    middle = share + spread / 2
    half = _Z95 * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)
