"""An image of noise with objects, for detectors of any framework."""

from typing import NamedTuple

import numpy as np

CLASSES = 80

_OBJECTS = 8


class SyntheticImage(NamedTuple):
    """N objects on an image of H x W pixels.

    Attributes:
        pixels: `(H, W, 3)`, RGB in 0..255.
        boxes: `(N, 4)` `[y1, x1, y2, x2]` in pixels.
        classes: `(N,)`, from 1 to `CLASSES`.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def synthetic_image(height: int, width: int, seed: int = 0) -> SyntheticImage:
    """Eight objects, with sides of a tenth to a half of the image's."""
    random = np.random.default_rng(seed)
    size = np.array([height, width])
    sides = random.uniform(0.1, 0.5, [_OBJECTS, 2]) * size
    corners = random.uniform(0, 1, [_OBJECTS, 2]) * (size - sides)
    pixels = random.uniform(0, 255, [height, width, 3])
    classes = random.integers(1, CLASSES + 1, [_OBJECTS])
    return SyntheticImage(
        pixels.astype(np.float32), np.concatenate([corners, corners + sides], axis=1).astype(np.float32), classes
    )
