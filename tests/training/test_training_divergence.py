"""A run whose parameters become NaN ends with an error, however short it is."""

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.errors import ConversionError


class Failing(nn.Module):
    """Gives NaN from its n-th call on."""

    def __init__(self, ann, good):
        super().__init__()
        self.ann, self.good = ann, good

    def forward(self, x):
        self.good -= 1
        return self.ann(x) * (1.0 if self.good >= 0 else float("nan"))


@pytest.mark.parametrize("good", [3, 8])
def test_parameters_that_become_nan_are_noticed_at_once(good):
    torch.manual_seed(0)
    ann, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.randn(32, 4)
    snn = snnconvert.convert(ann, [inputs], snnconvert.ConversionConfig(), progress=False)
    config = snnconvert.FinetuneConfig(epochs=4, batch_size=16)
    with pytest.raises(ConversionError, match="training diverged"):
        snnconvert.finetune(snn, inputs, config, teacher=Failing(ann, good))
