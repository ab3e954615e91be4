"""The precision that a detector computes in.

Under a mixed policy the layers compute in half precision, and keep their weights in float32. Offsets, boxes, what is
ranked or suppressed, and losses are float32 whatever the policy. In float16, whose small numbers end at 6e-8, Keras
scales the loss so that gradients do not vanish, and leaves out a step whose gradients overflow.
"""

import contextlib
from collections.abc import Iterator

import keras

from tf_dcnv2.training.options import Precision


@contextlib.contextmanager
def made_in(precision: Precision) -> Iterator[None]:
    """Layers and models that are made inside the block compute in this precision, for as long as they exist."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
