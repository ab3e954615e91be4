"""Moving averages of the weights: in the model while it is evaluated and saved, out of it while it trains."""

import contextlib
from collections.abc import Iterator

import keras

from tf_dcnv2.optimizers import steps_made


class AveragedWeights:
    """Exchanges a model's weights with the moving averages that its optimizer keeps of them (`use_ema=True`).

    Does nothing for an optimizer that keeps none, nor before the first step, after which they begin.
    """

    def __init__(self, model: keras.Model):
        self._model = model

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The model has the averages inside the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def around(self, inside: list[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
        """Callbacks that, at the end of an epoch, see the model with the averages.

        When `fit` ends, the optimizer itself leaves them in the model.
        """
        if not self._optimizer.use_ema:
            return inside
        exchange = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: self._exchange()) for _ in range(2)]
        return [exchange[0], *inside, exchange[1]]

    @property
    def _optimizer(self) -> keras.optimizers.Optimizer:
        return getattr(self._model.optimizer, "inner_optimizer", self._model.optimizer)

    def _exchange(self) -> None:
        optimizer = self._optimizer
        if optimizer.use_ema and steps_made(optimizer) > 0:
            pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
            for weight, average in pairs:
                value = keras.ops.convert_to_numpy(weight)
                weight.assign(average)
                average.assign(value)
