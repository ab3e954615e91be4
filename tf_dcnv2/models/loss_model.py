"""Training of models whose loss is a dictionary of named terms."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2._core.checked_types import PositiveInt, check_for
from tf_dcnv2.models.replicas import count_replicas, on_one_canvas, share_of_logs
from tf_dcnv2.models.weight_decay import gradients_apart, with_decay
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
        self.accumulate = 1
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

    def targets_of_batch(self, targets: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Adds to the targets of each image what depends on the others of its batch, before the batch is divided."""
        return targets

    def compile(
        self, optimizer: str | dict | keras.optimizers.Optimizer = "sgd", *, accumulate: int = 1, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`, without `loss`. Offset branches learn at a tenth of `optimizer`'s rate.

        Args:
            optimizer: an optimizer, its name or its configuration.
            accumulate: in how many parts a batch is computed, one after another, before the optimizer makes its step
                with the sum of their gradients: memory for one part is enough, and losses and weights are those of the
                whole batch. Only normalisations that learn from the batch see each part by itself.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: a `loss` is given, or `accumulate` is not positive.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(f"{type(self).__name__} brings its own losses: compile it without `loss`.")
        self.accumulate = check_for(PositiveInt)(accumulate, "accumulate")
        super().compile(optimizer=for_compiling(optimizer), **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile` in the form that Keras saves; empty for a model that is not compiled."""
        config = super().get_compile_config()
        return {**config, "accumulate": self.accumulate} if config else config

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
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: the model is built, and for several processes Keras fails here (keras-team/keras#20585)."""

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of the optimizer on a batch `(inputs, targets)`; returns the means of the losses so far."""
        # `train_on_batch` appends sample weights, which detectors do not have.
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        inputs, targets = on_one_canvas(inputs), self.targets_of_batch(targets)
        if self.accumulate == 1:
            losses, gradients = self._losses_and_gradients(inputs, targets, share=1.0)
        else:
            losses, gradients = self._accumulated(inputs, targets)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._update_means(losses)

    def _accumulated(self, inputs: Any, targets: Any) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """The losses and gradients of a batch, computed in parts.

        Keras' own `gradient_accumulation_steps` counts a step for each part: moving averages of the weights decay that
        often, learning rates and checkpoints fall between parts, and the sum is state that has to be saved.
        """
        size = tf.shape(tf.nest.flatten(inputs)[0])[0]
        enough = tf.debugging.assert_greater_equal(
            size, self.accumulate, f"A batch must have an image for each of its accumulate={self.accumulate} parts."
        )
        with tf.control_dependencies([enough] if enough is not None else []):  # None when eager
            size = tf.identity(size)

        def add_part(number: tf.Tensor, losses: Any, gradients: Any) -> tuple[tf.Tensor, Any, Any]:
            begin, end = (k * size // self.accumulate for k in (number, number + 1))
            part_inputs, part_targets = tf.nest.map_structure(lambda values: values[begin:end], (inputs, targets))
            share = tf.cast(end - begin, tf.float32) / tf.cast(size, tf.float32)
            new = self._losses_and_gradients(part_inputs, part_targets, share)
            return number + 1, *tf.nest.map_structure(tf.add, (losses, gradients), new)

        losses = {name: tf.zeros([]) for name in (*self.loss_names, "regularization_loss")}
        gradients = [tf.zeros(variable.shape, variable.dtype) for variable in self.trainable_variables]
        parts = (tf.constant(0), losses, gradients)
        # One part after another: two at a time would need the memory of two.
        return tf.while_loop(lambda number, *_: number < self.accumulate, add_part, parts, parallel_iterations=1)[1:]

    def _losses_and_gradients(
        self, inputs: Any, targets: Any, share: float | tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """The losses of a part of a batch, and the gradients of their sum, as `share` of those of the batch."""
        with tf.GradientTape() as tape, gradients_apart():
            losses = {name: share * loss for name, loss in self.all_losses(inputs, targets, training=True).items()}
            # Under tf.distribute gradients are summed over replicas, so each contributes its share of the mean.
            total = tf.add_n(list(losses.values())) / count_replicas()
            scaled = self.optimizer.scale_loss(total)
        unconnected = "none" if self.accumulate == 1 else "zero"
        gradients = tape.gradient(scaled, self.trainable_variables, unconnected_gradients=unconnected)
        return losses, with_decay(
            gradients, self.trainable_variables, self.optimizer.scale_loss(share / count_replicas())
        )

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The losses of a batch `(inputs, targets)`, without a step; returns their means so far."""
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self._update_means(self.all_losses(inputs, targets, training=False))

    def all_losses(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool
    ) -> dict[str, tf.Tensor]:
        """The terms of `compute_losses`, and `regularization_loss`, the sum of all penalties: what is trained on."""
        losses = self.compute_losses(inputs, targets, training)
        penalties = [tf.cast(penalty, tf.float32) for penalty in self.losses]
        return {**losses, "regularization_loss": tf.add_n(penalties) if penalties else tf.zeros([])}

    def _update_means(self, losses: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        for name, value in {"loss": tf.add_n(list(losses.values())), **losses}.items():
            # Totals and counts are summed over replicas: together they count a step once.
            self._means[name].update_state(value, sample_weight=1.0 / count_replicas())
        return {name: share_of_logs(mean.result()) for name, mean in self._means.items()}
