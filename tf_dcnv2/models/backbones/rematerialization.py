"""Parts of a network that are computed again for their gradients, instead of keeping what is in them until then."""

import contextlib
import functools
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf
from keras import KerasTensor


class RematerializedStages:
    """The stages of a functional model one after the other, each computed again when its gradients are.

    Whole stages, because the outputs of residual blocks have more channels than what is within: to keep those of all
    blocks would save half as much. Layers stay those of the model, which does not track this object.

    Args:
        images: the model's input.
        features: the output of each stage, which is the input of the next.
    """

    def __init__(self, images: KerasTensor, features: Mapping[str, KerasTensor]):
        inputs = [images, *features.values()]
        self._stages = {name: keras.Model(x, y) for (name, y), x in zip(features.items(), inputs, strict=False)}

    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """The output of each stage, in training."""
        features = {}
        for name, stage in self._stages.items():
            x = features[name] = rematerialized(functools.partial(stage, training=True))(x)
        return features


def rematerialized(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`function`, whose gradient calls it once more.

    What that call assigns to Keras variables is dropped: moving averages move once in a step.
    """
    calls = 0

    def call(x: tf.Tensor) -> tf.Tensor:
        nonlocal calls
        calls += 1
        with contextlib.nullcontext() if calls == 1 else keras.StatelessScope():
            return function(x)

    return tf.recompute_grad(call)
