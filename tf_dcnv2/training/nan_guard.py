"""Stops a training that has diverged, with the last weights that were good."""

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.training.checkpoints import training_variables


class TrainingDiverged(RuntimeError):
    """A loss, a weight or the state of the optimizer is NaN or infinite; the message names it and the step."""


class NaNGuard(keras.callbacks.Callback):
    """Stops `fit` at the first step with a loss or a weight that is not finite, and puts back what was before it.

    After each step it looks at the losses (`loss` and what ends in `_loss`), at the weights and at the state of the
    optimizer. If all are finite they are kept, without a copy: TensorFlow makes one when it changes a variable that
    someone else still reads. If not, model and optimizer return to what was kept, and the error ends `fit`.

    Args:
        every: steps between two looks at the weights. The losses are looked at after every step.

    Raises:
        TrainingDiverged: from `fit`.

    Example:
        >>> model.fit(dataset, callbacks=[tf_dcnv2.training.NaNGuard()])
    """

    def __init__(self, every: int = 1):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1. Received: {every}")
        self._every = every

    def on_train_begin(self, logs=None) -> None:
        self._variables = training_variables(self.model)
        self._read = tf.function(self._read_variables)
        self._kept: list[tf.Tensor] = []
        self._epoch = self._steps = 0
        if where := self._keep_if_finite():
            raise TrainingDiverged(f"{where} held NaN or infinity before the first step.")

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._steps += 1
        values = {
            name: float(value) for name, value in (logs or {}).items() if name == "loss" or name.endswith("_loss")
        }
        wrong = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
        if not wrong and self._steps % self._every == 0 and (where := self._keep_if_finite()):
            wrong = [f"{where} is not finite, though the losses are"]
        if wrong:
            step = int(self.model.optimizer.iterations)
            self.model.stop_training = True
            for variable, value in zip(self._variables, self._kept, strict=True):
                variable.assign(value)
            kept = int(self.model.optimizer.iterations)
            # The sum of all losses says less than the term that spoilt it.
            raise TrainingDiverged(
                f"Training has diverged: {', '.join(sorted(wrong, key=lambda text: text.startswith('loss ')))} at step "
                f"{step} (epoch {self._epoch + 1}). The weights are those of step {kept}, which were finite. A lower "
                "learning rate, a longer warm-up or a bound of the gradient's norm (clip_norm) may help."
            )

    def on_train_end(self, logs=None) -> None:
        self._kept = []

    def _keep_if_finite(self) -> str | None:
        """Keeps the present values, unless one is not finite: then it returns the name of the first such."""
        finite, values = self._read()
        if not np.all(finite):
            return self._variables[int(np.argmin(finite))].path
        self._kept = values
        return None

    def _read_variables(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Which of the variables are finite, and their values."""
        values = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        finite = [tf.reduce_all(tf.math.is_finite(v)) if v.dtype.is_floating else tf.constant(True) for v in values]
        return tf.stack(finite), values
