"""Models whose spatial support is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, tiny_config
from tf_dcnv2.models import FasterRCNN


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.uniform(0, 255, [64, 96, 3]).astype(np.float32)


@pytest.fixture(scope="session")
def detectors() -> dict[str, FasterRCNN]:
    """By kind of their deformation; the deformable ones move their samples by fractions of a pixel and more."""
    built = {}
    for dcn in ("none", "v1", "v2"):
        keras.utils.set_random_seed(0)
        built[dcn] = tiny_config("fpn", dcn).build(CATEGORY_IDS)
        random = np.random.default_rng(1)
        for variable in built[dcn].variables:
            if "offset" in variable.path:
                scale = 0.02 if variable.path.endswith("kernel") else 1.0
                variable.assign(variable + scale * random.standard_normal(variable.shape))
    return built


@pytest.fixture
def sequential():
    """Builds a Sequential model of layers on images of one channel or more."""

    def build(*layers: keras.layers.Layer, channels: int = 1) -> keras.Model:
        return keras.Sequential([keras.Input((None, None, channels)), *layers])

    return build


def set_offsets(layer: keras.layers.Layer, offsets: np.ndarray, modulation: np.ndarray | None = None) -> None:
    """Makes a deformable layer move tap k by `offsets[k]` everywhere; a modulation is that of mask_scale=1."""
    bias = np.ravel(offsets)
    if modulation is not None:
        with np.errstate(divide="ignore"):
            bias = np.concatenate([bias, np.log(modulation) - np.log1p(-modulation)])
    layer.offset_kernel.assign(tf.zeros_like(layer.offset_kernel))
    layer.offset_bias.assign(bias)
