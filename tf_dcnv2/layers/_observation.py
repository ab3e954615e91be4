"""How tools see, and may replace, where the layers of a model sample while it runs."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

Sampling = tuple[tf.Tensor | None, tf.Tensor | None]
Observer = Callable[[keras.layers.Layer, tuple[Any, ...], tf.Tensor | None, tf.Tensor | None], Sampling]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observe_sampling(observer: Observer) -> Iterator[None]:
    """A context in which `observer` sees, and may replace, the offsets and modulation of this package's layers.

    It works on any model, whatever its class. It reaches layers that run eagerly in this thread, and a `tf.function`
    while it is traced; a function that was traced before, such as `model.predict`'s, runs without it.

    Args:
        observer: called as `observer(layer, inputs, offset, mask)` each time that a layer samples features. It returns
            the offset and the mask that the layer goes on with. `inputs` is `(x,)` for a convolution, and `(features,
            boxes, box_indices, levels)` with boxes `(N, 4)` for RoI pooling. The other two are what `layer.sampling`
            returns, and `None` for what the layer has not: a `RoIAlign` has neither, and may be given both.

    Example:
        >>> layer = tf_dcnv2.layers.DeformableConv2D(8, 3, padding="same", name="conv")
        >>> def print_farthest(layer, inputs, offset, mask):
        ...     print(layer.name, float(keras.ops.max(keras.ops.abs(offset))))
        ...     return offset, mask
        >>> with tf_dcnv2.layers.observe_sampling(print_farthest):
        ...     y = layer(keras.ops.ones((1, 16, 16, 3)))
        conv 0.0
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def as_observed(
    layer: keras.layers.Layer, inputs: tuple[Any, ...], offset: tf.Tensor | None, mask: tf.Tensor | None
) -> Sampling:
    """The offset and mask that `layer` goes on with, after whoever observes it has seen them."""
    observer = _observer.get()
    return (offset, mask) if observer is None else observer(layer, inputs, offset, mask)
