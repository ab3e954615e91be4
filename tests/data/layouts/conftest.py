import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path):
    """A folder `set/images` of two images of 48 x 64 pixels, a.jpg and b.jpg."""
    folder = tmp_path / "set" / "images"
    folder.mkdir(parents=True)
    for name, value in (("a.jpg", 80), ("b.jpg", 160)):
        Image.fromarray(np.full((48, 64, 3), value, np.uint8)).save(folder / name)
    return folder
