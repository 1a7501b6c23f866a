import inspect

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.convert.capture import capture_call
from snnconvert.convert.user_line import user_line
from snnconvert.errors import ConversionError


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        if y.sum() > 0:  # the branch
            y = -y
        return y


class Loop(Branch):
    def forward(self, x):
        return self.helper(self.conv(x))

    def helper(self, y):
        while bool((y > 0).any()):  # the loop
            y = y - 1
        return y


class Choice(Branch):
    def forward(self, x):
        y = self.conv(x)
        best = int(y.mean((0, 2, 3)).argmax())  # the choice
        return y[:, : best + 1]


class Fails(Branch):
    def forward(self, x):
        return self.conv(x) @ torch.zeros(3, 3)  # the failure


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Branch, "if y.sum() > 0:  # the branch"),
        (Loop, "while bool((y > 0).any()):  # the loop"),
        (Choice, "best = int(y.mean((0, 2, 3)).argmax())  # the choice"),
        (Fails, "return self.conv(x) @ torch.zeros(3, 3)  # the failure"),
    ],
)
def test_the_line_of_the_model_is_named(kind, code):
    lines, first = inspect.getsourcelines(kind)
    line = first + next(index for index, text in enumerate(lines) if code in text)
    torch.manual_seed(0)
    with pytest.raises(ConversionError) as error:
        capture_call(kind(), torch.rand(2, 3, 8, 8))
    assert f"{__file__}:{line}: {code}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cell_of_a_notebook_is_called_that():
    code = compile("\n\ndef fail():\n    raise ValueError\n", "/somewhere/ipykernel_17/293.py", "exec")
    names = {}
    exec(code, names)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        names["fail"]()
    assert user_line(error.value).startswith(" at notebook cell:4: ")


class OverTheBatch(Branch):
    def forward(self, images):
        return torch.stack([image.mean((1, 2)) for image in self.conv(images)])


def test_a_batch_that_is_fixed_is_named():
    with pytest.raises(ConversionError, match="treats the batch size of images as the constant 2"):
        capture_call(OverTheBatch(), torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("kind", [Branch, Loop, Choice])
def test_refusals_are_quiet(kind, capfd):
    torch.manual_seed(0)
    with pytest.raises(ConversionError):
        capture_call(kind(), torch.rand(2, 3, 8, 8))
    assert capfd.readouterr() == ("", "")


def test_indices_that_are_taken_for_pixels_are_told_the_way():
    net = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(40, 3)).eval()
    indices = torch.randint(0, 7, (16, 5))
    with pytest.raises(ConversionError, match=r"indices.*give indices as snnconvert\.Inputs\(indices\)"):
        snnconvert.convert(net, indices, progress=False)
    snn = snnconvert.convert(net, [snnconvert.Inputs(indices)], progress=False)
    assert snn(indices).shape == (16, 3)
