"""The branch of a deformable RoI pooling, from what a RoI pools plainly to how its bins are sampled."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers._types import DTypePolicy, Regularizer


class RoIBranch(keras.layers.Layer):
    """Fully connected layers with ReLU, then one that starts at zero: `(N, inputs)` to `(N, outputs)`.

    Args:
        hidden_units: width of the hidden layers.
        outputs: number of values for each RoI.
        dtypes: dtype policies of the hidden layers, followed by that of the last one.
        kernel_regularizer: of all kernels.
        **kwargs: `name` and `dtype`.
    """

    def __init__(
        self,
        hidden_units: int,
        outputs: int,
        dtypes: Sequence[DTypePolicy],
        *,
        kernel_regularizer: Regularizer = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        *hidden, last = dtypes
        self.hidden = [
            keras.layers.Dense(
                hidden_units,
                activation="relu",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                dtype=dtype,
                kernel_regularizer=kernel_regularizer,
                name=f"hidden_{number}",
            )
            for number, dtype in enumerate(hidden, start=1)
        ]
        self.predictor = keras.layers.Dense(
            outputs, kernel_initializer="zeros", dtype=last, kernel_regularizer=kernel_regularizer, name="predictor"
        )

    @property
    def layers(self) -> list[keras.layers.Dense]:
        """All layers in the order in which they are called."""
        return [*self.hidden, self.predictor]

    def build(self, input_shape: tuple[int | None, int]) -> None:
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = (None, layer.units)

    def call(self, pooled: tf.Tensor) -> tf.Tensor:
        for layer in self.layers:
            pooled = layer(pooled)
        return pooled
