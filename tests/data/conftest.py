import numpy as np
import pytest
from PIL import Image

from snnconvert.data.preprocessing import Preprocessing


@pytest.fixture
def preprocessing():
    return Preprocessing((3, 16, 16), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bilinear", 0.875, "center")


@pytest.fixture
def make_folder(tmp_path):
    """Writes `count` images of one colour, a new one for each file, into each named folder."""
    colour = iter(range(1, 256**3, 7919))

    def make(folders: dict[str, int], extension: str = ".png"):
        for folder, count in folders.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.empty((20, 24, 3), np.uint8)
                pixels[:] = list(next(colour).to_bytes(3, "little"))
                Image.fromarray(pixels).save(tmp_path / folder / f"image{number:03}{extension}")
        return tmp_path

    return make
