"""Stops a training that has diverged, with the last weights that were good."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2._core.checked_types import PositiveInt, checked_arguments
from tf_dcnv2.optimizers import steps_made
from tf_dcnv2.training.checkpoints import training_variables
from tf_dcnv2.training.divergence import Batch, first_not_finite


class TrainingDiverged(RuntimeError):
    """A loss, a weight or the state of the optimizer is NaN or infinite; the message names it and the step."""


class NaNGuard(keras.callbacks.Callback):
    """Stops `fit` at the first step with a loss or a weight that is not finite, and puts back what was before it.

    After each step it looks at the losses (`loss` and what ends in `_loss`), at the weights and at the state of the
    optimizer. If all are finite they are kept, without a copy: TensorFlow makes one when it changes a variable that
    someone else still reads. If not, model and optimizer return to what was kept, and the error ends `fit`.

    A model that `fit` has yet to build is kept from the end of its first step on. If that step diverges already, there
    is nothing to put back, and the message says so.

    Args:
        every: steps between two looks at the weights. The losses are looked at after every step.
        batch_at: returns the batch `(inputs, targets)` of a step of `fit`, counted from 0. With it the step is computed
            once more, so that the message can name the layer, loss or gradient that was the first to go wrong, and the
            images (`image_ids` of the targets). By default it names neither.

    Raises:
        TrainingDiverged: from `fit`.

    Example:
        >>> guard = tf_dcnv2.training.NaNGuard(batch_at=lambda step: next(iter(dataset.skip(step))))
        >>> model.fit(dataset, callbacks=[guard])
    """

    @checked_arguments
    def __init__(self, every: PositiveInt = 1, batch_at: Callable[[int], Batch] | None = None):
        super().__init__()
        self._every = every
        self._batch_at = batch_at

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keeps the values before the first step, which must be finite."""
        self._variables: list[keras.Variable] = []
        self._kept: list[tf.Tensor] = []
        self._epoch = self._steps = 0
        if _is_built(self.model) and (where := self._begin()):
            raise TrainingDiverged(f"{where} held NaN or infinity before the first step.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the losses and, if it is time for that, at the weights."""
        self._steps += 1
        values = {
            name: float(value) for name, value in (logs or {}).items() if name == "loss" or name.endswith("_loss")
        }
        wrong = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
        if not wrong and (where := self._look_at_the_weights()):
            wrong = [f"{where} is not finite, though the losses are"]
        if wrong:
            optimizer = self.model.optimizer
            step, rate = steps_made(optimizer), float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            self.model.stop_training = True
            # The sum of all losses says less than the term that spoilt it.
            what = ", ".join(sorted(wrong, key=lambda text: text.startswith("loss ")))
            put_back = self._put_back()
            raise TrainingDiverged(
                f"Training has diverged: {what} at step {step} (epoch {self._epoch + 1}), with a learning rate of "
                f"{rate:.3g}.{self._where_it_began()} {put_back} A lower learning rate, a longer warm-up or a bound of "
                "the gradient's norm (clip_norm) may help."
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Lets go of what was kept."""
        self._kept = []

    def _begin(self) -> str | None:
        """The first look at the weights; like `_keep_if_finite`."""
        self._variables = training_variables(self.model)
        self._read = tf.function(self._read_variables)
        return self._keep_if_finite()

    def _look_at_the_weights(self) -> str | None:
        """Keeps them if it is time for that; like `_keep_if_finite`."""
        if not self._variables:
            return self._begin()
        return self._keep_if_finite() if self._steps % self._every == 0 else None

    def _where_it_began(self) -> str:
        """Computes the step once more from what was kept, and says which images and which value spoilt it."""
        if self._batch_at is None:
            return ""
        inputs, targets = self._batch_at(self._steps - 1)
        text = ""
        if isinstance(targets, Mapping) and "image_ids" in targets:
            text = f" Its images are {', '.join(map(str, np.ravel(targets['image_ids'])))}."
        if self._kept and (where := first_not_finite(self.model, (inputs, targets))):
            text += f" The first value that is not finite is {where}."
            self._restore()  # a step changes moving averages
        return text

    def _put_back(self) -> str:
        """Returns model and optimizer to what was kept, and says what they are now."""
        if not self._kept:
            return "It was the first step of a model that was not built before, so there are no weights to go back to."
        self._restore()
        return f"The weights are those of step {steps_made(self.model.optimizer)}, which were finite."

    def _restore(self) -> None:
        for variable, value in zip(self._variables, self._kept, strict=True):
            variable.assign(value)

    def _keep_if_finite(self) -> str | None:
        """Keeps the present values, unless one is not finite: then it returns the name of the first such."""
        finite, values = self._read()
        if not np.all(finite):
            return self._variables[int(np.argmin(finite))].path
        self._kept = values
        return None

    def _read_variables(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Reads the variables: whether each is finite, and their values."""
        values = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        finite = [tf.reduce_all(tf.math.is_finite(v)) if v.dtype.is_floating else tf.constant(True) for v in values]
        return tf.stack(finite), values


def _is_built(model: keras.Model) -> bool:
    """Whether `fit` will add no variables to the model, and its optimizer can be built for those it has."""
    return all(layer.built for layer in model._flatten_layers())
