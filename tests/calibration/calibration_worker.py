"""One of several processes that calibrate together; saves the network it ends with."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import snnconvert
from snnconvert.models.digits import load_digits_net

CONFIG = snnconvert.ConversionConfig(bits=1, T=4, weight_bits=4, weight_rounding="gptq")
BATCH = 16


class Masked(nn.Module):
    """A network with a second input that has no batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(20, 12), nn.Linear(12, 4)

    def forward(self, x, mask):
        return self.second(torch.relu(self.first(x)) * mask)


def digits_batches():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10 * BATCH, 1, 8, 8, generator=generator).split(BATCH)


def masked_batches(scale=1.0):
    generator = torch.Generator().manual_seed(1)
    mask = scale * torch.linspace(0, 1, 12)
    return [snnconvert.Inputs(torch.randn(BATCH, 20, generator=generator), mask) for _ in range(5)]


def convert_all(part_of):
    """Networks calibrated on a part of the batches: all, every other one, or all in one process only."""
    return {
        "digits": snnconvert.convert(load_digits_net(), part_of(digits_batches()), CONFIG, progress=False),
        "masked": snnconvert.convert(Masked().eval(), part_of(masked_batches()), CONFIG, progress=False),
        "without data": snnconvert.convert(
            load_digits_net(), snnconvert.NoData(digits_batches()[0]), CONFIG, progress=False
        ),
    }


def contents(snn):
    """All that a network is: tensors, thresholds, report."""
    layers = [(layer.threshold, layer.firing_rate, layer.sqnr_db) for layer in snn.report.layers]
    return {"state": snn.state_dict(), "layers": layers, "count": snn.report.calibration_images}


def message_of(model, batches):
    """What a conversion is refused with."""
    try:
        snnconvert.convert(model, batches, CONFIG, progress=False)
    except snnconvert.InputError as error:
        return str(error)
    return ""


def damaged(batches, index):
    return [batch.clone().fill_(torch.nan) if i == index else batch for i, batch in enumerate(batches)]


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    found = {
        "alternating": {name: contents(snn) for name, snn in convert_all(lambda b: b[rank::processes]).items()},
        "one only": {name: contents(snn) for name, snn in convert_all(lambda b: b if rank == 1 else []).items()},
        "unequal": message_of(Masked().eval(), masked_batches(1.0 + rank)),
        "empty": message_of(load_digits_net(), []),
        "first batch": message_of(load_digits_net(), damaged(digits_batches(), 0 if rank == 1 else None)),
        "later batch": message_of(load_digits_net(), damaged(digits_batches(), 7 if rank == 1 else None)),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
