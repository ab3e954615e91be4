"""Training of models whose loss is a dictionary of named terms."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.optimizers import for_compiling


class LossModel(keras.Model):
    """A `keras.Model` trained on the sum of the terms that `compute_losses` returns.

    Works with `compile`, `fit` and `evaluate` as any Keras model: batches are `(inputs, targets)` as
    `tf_dcnv2.data.load_records` makes them; the progress bar and `History` show `loss` and every term by its name.
    """

    def __init__(self, loss_names: tuple[str, ...], **kwargs: Any):
        # Without autocast, which would round image sizes to half precision.
        super().__init__(autocast=False, **kwargs)
        self.supports_jit = False  # proposals have data-dependent sizes, and custom ops no XLA kernel
        self.loss_names = tuple(loss_names)
        names = ("loss", *loss_names, "regularization_loss")
        self._means = {name: keras.metrics.Mean(name=name) for name in names}

    def compute_losses(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool = True
    ) -> dict[str, tf.Tensor]:
        """The terms called `loss_names`, scalars with their weights already applied.

        Args:
            inputs: the images of a batch and their sizes, as `tf_dcnv2.data.load_records` makes them.
            targets: the objects on them.
            training: whether batch normalisation learns from the batch; `evaluate` says no.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement compute_losses")

    def compile(self, optimizer: str | dict | keras.optimizers.Optimizer = "sgd", **kwargs: Any) -> None:
        """As `keras.Model.compile`, without `loss`. Offset branches learn at a tenth of `optimizer`'s rate.

        Args:
            optimizer: an optimizer, its name or its configuration.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: a `loss` is given.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(f"{type(self).__name__} brings its own losses: compile it without `loss`.")
        super().compile(optimizer=for_compiling(optimizer), **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a model that is being loaded or cloned, and makes room for its optimizer's state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means of `loss`, of each term and of `regularization_loss` since the epoch began."""
        return list(self._means.values())

    def make_train_function(self, force: bool = False) -> Any:
        """Makes the function of one training step; variables of the optimizer exist before it is traced."""
        # A trace in which variables come into being is made twice, and one of a large detector takes a minute.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of the optimizer on a batch `(inputs, targets)`; returns the means of the losses so far."""
        # `train_on_batch` appends sample weights, which detectors do not have.
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses = self._all_losses(inputs, targets, training=True)
            # Under tf.distribute gradients are summed over replicas, so each contributes its share of the mean.
            share = tf.add_n(list(losses.values())) / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return self._update_means(losses)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The losses of a batch `(inputs, targets)`, without a step; returns their means so far."""
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self._update_means(self._all_losses(inputs, targets, training=False))

    def _all_losses(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool
    ) -> dict[str, tf.Tensor]:
        losses = self.compute_losses(inputs, targets, training)
        penalties = [tf.cast(penalty, tf.float32) for penalty in self.losses]
        return {**losses, "regularization_loss": tf.add_n(penalties) if penalties else tf.zeros([])}

    def _update_means(self, losses: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        for name, value in {"loss": tf.add_n(list(losses.values())), **losses}.items():
            self._means[name].update_state(value)
        return {name: mean.result() for name, mean in self._means.items()}
