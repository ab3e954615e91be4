"""What the arguments of Keras layers may be: an object, its name or its configuration."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

Activation = str | dict | Callable[[tf.Tensor], tf.Tensor] | None
Initializer = str | dict | keras.initializers.Initializer
Regularizer = str | dict | keras.regularizers.Regularizer | None
Constraint = str | dict | keras.constraints.Constraint | None
DTypePolicy = str | dict | keras.DTypePolicy

IntPair = int | Sequence[int]
Shape = tuple[int | None, ...]
Shapes = Shape | Sequence[Shape]
Features = tf.Tensor | Sequence[tf.Tensor]
