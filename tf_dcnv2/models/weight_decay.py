"""The penalty that decays weights."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class L2(keras.regularizers.L2):
    """Keras' penalty `l2 * sum(w**2)`, which reads the weights once for its value and once for its gradient.

    Keras' own squares them into a tensor first, and its gradient takes two more: a few percent of a training step of a
    detector with forty million weights.
    """

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The penalty of weights of any shape, a scalar."""
        return 2.0 * self.l2 * tf.nn.l2_loss(tf.convert_to_tensor(x))
