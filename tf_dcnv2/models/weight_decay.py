"""The penalty that decays weights."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import keras
import tensorflow as tf

_gradients_apart = ContextVar("gradients_apart", default=False)


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class L2(keras.regularizers.L2):
    """Keras' penalty `l2 * sum(w**2)`, which reads the weights once for its value and once for its gradient.

    Keras' own squares them into a tensor first, and its gradient takes two more: a few percent of a training step of a
    detector with forty million weights.
    """

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The penalty of weights of any shape, a scalar."""
        x = tf.convert_to_tensor(x)
        return 2.0 * self.l2 * tf.nn.l2_loss(tf.stop_gradient(x) if _gradients_apart.get() else x)


@contextlib.contextmanager
def gradients_apart() -> Iterator[None]:
    """Within, penalties have no gradients: `with_decay` adds them where gradients of everything else are known.

    TensorFlow computes what it can as early as it can. These follow from weights alone: they would wait for the others
    through the whole forward pass, in as much memory as all weights take.
    """
    token = _gradients_apart.set(True)
    try:
        yield
    finally:
        _gradients_apart.reset(token)


def with_decay(
    gradients: Sequence[tf.Tensor | None], variables: Sequence[keras.Variable], factor: float | tf.Tensor
) -> list[tf.Tensor | None]:
    """Gradients of variables, and `factor` times those of the penalties that some of them have."""
    return [
        _decayed(gradient, variable, factor * 2.0 * variable.regularizer.l2)
        if isinstance(variable.regularizer, L2)
        else gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def _decayed(gradient: tf.Tensor | None, variable: keras.Variable, rate: float | tf.Tensor) -> tf.Tensor:
    if gradient is None:
        return rate * tf.convert_to_tensor(variable)
    with tf.control_dependencies([gradient]):
        return gradient + rate * tf.convert_to_tensor(variable)
