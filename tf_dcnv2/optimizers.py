"""Per-variable learning rates for any Keras optimizer.

The offset branches of deformable convolutions learn at a tenth of the rate of the other layers (paper sec. 4.2).
Scaling their gradients would not do: adaptive optimizers divide the scale out again. So the learning rate itself is
scaled, where an optimizer applies it to one variable.

This is a property of the optimizer's class: `scale_learning_rates(keras.optimizers.Adam())` is a `ScaledAdam`, a
registered subclass of `Adam`. It stays one through saving and loading, cloning, copying and `from_config`.
"""

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

__all__ = ["for_compiling", "scale_learning_rates", "scaled_class", "steps_made"]


def scale_learning_rates(optimizer: keras.optimizers.Optimizer | str | dict) -> keras.optimizers.Optimizer:
    """Makes `optimizer` honour `variable.learning_rate_multiplier`, which the deformable layers set.

    Detectors do this to the optimizer they are compiled with; compile your own models that have deformable layers with
    `scale_learning_rates(keras.optimizers.Adam(1e-3))`. Works with every Keras optimizer, with decoupled weight decay,
    loss scaling, `MultiOptimizer` and `tf.distribute`. The optimizer is saved and loaded with its model, after
    `import tf_dcnv2`; one of a class of your own needs `scaled_class(YourOptimizer)` to be called before it is loaded.

    A multiplier of 0 leaves the variable as it is.

    Args:
        optimizer: an optimizer, which is changed in place (its class becomes a subclass of what it was), or a name or
            configuration as `keras.optimizers.get` takes it. Doing it twice has no further effect.

    Returns:
        The same optimizer.

    Raises:
        ValueError: `optimizer` is no Keras optimizer.

    Example:
        >>> model.compile(optimizer=tf_dcnv2.optimizers.scale_learning_rates(keras.optimizers.SGD(0.02, momentum=0.9)))
    """
    optimizer = _optimizer(optimizer)
    trained = _without_loss_scaling(optimizer)
    if not isinstance(trained, _ScaledOptimizer) and trained.built and steps_made(trained) > 0:
        warnings.warn(
            f"{type(trained).__name__} has made {steps_made(trained)} steps already. A model that it trained goes "
            "on without scaled learning rates until it is compiled again: model.compile(optimizer, ...).",
            stacklevel=2,
        )
    return for_compiling(optimizer)


def for_compiling(optimizer: keras.optimizers.Optimizer | str | dict) -> keras.optimizers.Optimizer:
    """Does what `scale_learning_rates` does, inside a `compile`, where earlier steps make no difference."""
    optimizer = _optimizer(optimizer)
    inner = _without_loss_scaling(optimizer)
    if not isinstance(inner, _ScaledOptimizer):
        # Not through the optimizer's own __setattr__, which tracks what is assigned.
        object.__setattr__(inner, "__class__", scaled_class(inner.__class__))
        inner.scale_inner_optimizers()
    return optimizer


def steps_made(optimizer: keras.optimizers.Optimizer) -> int:
    """How many steps an optimizer has made, also under `tf.distribute`, whose variables `int` does not take."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


@functools.cache
def scaled_class(optimizer_class: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """The subclass of an optimizer's class that honours `variable.learning_rate_multiplier`, registered with Keras.

    Those of Keras' own optimizers are there from the start. Call it on an optimizer class of your own before you load
    a model that was compiled with one.

    Example:
        >>> tf_dcnv2.optimizers.scaled_class(keras.optimizers.Adam).__name__
        'ScaledAdam'
    """
    name = f"Scaled{keras.saving.get_registered_name(optimizer_class)}"
    bases = [_ScaledMultiOptimizer if issubclass(optimizer_class, _MULTI_OPTIMIZERS) else _ScaledOptimizer]
    if optimizer_class is keras.optimizers.SGD:  # a subclass may update in a way of its own
        bases.append(_FusedMomentum)
    members = {"__module__": __name__, "__doc__": f"`{optimizer_class.__name__}` with per-variable learning rates."}
    subclass = type(f"Scaled{optimizer_class.__name__}", (*bases, optimizer_class), members)
    return keras.saving.register_keras_serializable(package="tf_dcnv2", name=name)(subclass)


# What a scaled optimizer inherits from next, to a type checker.
if TYPE_CHECKING:
    from keras.optimizers import Optimizer as _AnyOptimizer
else:
    _AnyOptimizer = object


class _ScaledOptimizer(_AnyOptimizer):
    """The part of a scaled optimizer that comes before its original class."""

    # Of the learning rate that the optimizer itself reads.
    _learning_rate_factor = 1.0

    def scale_inner_optimizers(self) -> None:
        """Scales the optimizers that this one delegates to, if there are any."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
        multiplier = self._multiplier_of(variable)
        if multiplier != 0.0:
            return super().update_step(gradient, variable, learning_rate * multiplier)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decoupled decay multiplies by the learning rate too, so each group of variables decays at its own."""
        groups: dict[float, list] = {}
        for variable in variables:
            groups.setdefault(self._multiplier_of(variable), []).append(variable)
        for multiplier, group in groups.items():
            self._learning_rate_factor = multiplier
            try:
                super()._apply_weight_decay(group)
            finally:
                self._learning_rate_factor = 1.0

    def _get_current_learning_rate(self) -> Any:
        learning_rate = super()._get_current_learning_rate()
        # The variable itself when it is not scaled: Keras assigns to it.
        return learning_rate if self._learning_rate_factor == 1.0 else learning_rate * self._learning_rate_factor

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Clips the sum over the replicas of `tf.distribute`; Keras clips the part of each, and sums after that."""
        summed = super()._all_reduce_sum_gradients(zip(grads, grads, strict=True))
        return super()._clip_gradients([gradient for gradient, _ in summed])

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[tuple[Any, Any]]:
        return list(grads_and_vars)  # `_clip_gradients` has summed them

    def _multiplier_of(self, variable: Any) -> float:
        # Under tf.distribute an update sees a replica's tf.Variable; the attribute is on the Keras variable.
        known = self._trainable_variables[self._get_variable_index(variable)]
        return getattr(known, "learning_rate_multiplier", 1.0)


class _ScaledMultiOptimizer(_ScaledOptimizer):
    """Delegates every update, and so scales those it delegates to."""

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self.scale_inner_optimizers()  # a function that chooses optimizers shows them only here

    def scale_inner_optimizers(self) -> None:
        for optimizer in self.optimizers:
            for_compiling(optimizer)


class _FusedMomentum(_AnyOptimizer):
    """SGD whose step with momentum is one op for each variable, which reads and writes memory once.

    Keras' own takes five. With the 44 million weights of a ResNet-50 detector that halves the time of the update.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
        if self.momentum == 0 or not isinstance(gradient, tf.Tensor):
            return super().update_step(gradient, variable, learning_rate)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


def _optimizer(given: Any) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.get(given)
    if optimizer is None:
        raise ValueError("optimizer must be a Keras optimizer, its name or its configuration. Received: None")
    return optimizer


def _without_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that a `LossScaleOptimizer` delegates its updates to, or `optimizer` itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


# Older Keras has no such class.
_MULTI_OPTIMIZERS = (keras.optimizers.MultiOptimizer,) if hasattr(keras.optimizers, "MultiOptimizer") else ()

for _class in list(vars(keras.optimizers).values()):
    if isinstance(_class, type) and issubclass(_class, keras.optimizers.Optimizer):
        scaled_class(_class)
