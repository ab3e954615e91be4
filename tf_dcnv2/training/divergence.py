"""Finds where a training step went wrong, by computing it again."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers import observe_sampling
from tf_dcnv2.models.loss_model import LossModel

Batch = tuple[Any, Any]


def first_not_finite(model: keras.Model, batch: Batch) -> str | None:
    """Names the first value of a training step on `batch` that is NaN or infinite, with the weights the model has.

    That is the offset, the modulation or the output of a layer; or else a loss; or else the gradient of a weight, of
    several that one nearest to the losses, from which the others have it. The model's state may change, as it does in
    a training step.

    Args:
        model: the model of `fit`.
        batch: `(inputs, targets)`.

    Returns:
        Such as "the offset of conv4_block2_2_conv"; None if all values are finite.
    """
    found: list[str] = []

    def note(values: Any, name: str) -> None:
        if not found and not all(_is_finite(value) for value in tf.nest.flatten(values) if value is not None):
            found.append(name)

    def see_sampling(layer: keras.layers.Layer, inputs: Any, offset: Any, mask: Any) -> tuple[Any, Any]:
        note(offset, f"the offset of {layer.name}")
        note(mask, f"the modulation of {layer.name}")
        return offset, mask

    with (
        tf.GradientTape() as tape,
        observe_sampling(see_sampling),
        _observed_outputs(model._flatten_layers(include_self=False), note),
    ):
        losses = _losses(model, batch)
    for name, loss in losses.items():
        note(loss, name)
    if not found:
        variables = model.trainable_variables
        gradients = tape.gradient(tf.add_n(list(losses.values())), variables)
        for variable, gradient in reversed(list(zip(variables, gradients, strict=True))):
            note(gradient, f"the gradient of {variable.path}")
    return found[0] if found else None


def _losses(model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    inputs, targets = batch
    if isinstance(model, LossModel):
        return model.all_losses(inputs, targets, training=True)
    return {"loss": model.compute_loss(inputs, targets, model(inputs, training=True))}


@contextlib.contextmanager
def _observed_outputs(layers: Sequence[keras.layers.Layer], note: Callable[[Any, str], None]) -> Iterator[None]:
    """Within the block `note` is called with the output of every call of the layers, and what to call it."""

    def observed(layer: keras.layers.Layer) -> Callable[..., Any]:
        call = layer.call

        def observed_call(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            note(outputs, f"the output of {layer.name}")
            return outputs

        return observed_call

    for layer in layers:
        layer.call = observed(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _is_finite(value: Any) -> bool:
    value = tf.convert_to_tensor(value)
    return not value.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(value)))
