"""Per-variable learning rates for any Keras optimizer.

The offset branches of deformable convolutions learn at a tenth of the rate of the other layers (paper sec. 4.2).
Scaling their gradients would not do: adaptive optimizers divide the scale out again. So the learning rate itself is
scaled, where an optimizer applies it to one variable.
"""

import keras


def scale_learning_rates(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Makes `optimizer` honour `variable.learning_rate_multiplier`, which the deformable layers set.

    Detectors do this to the optimizer they are compiled with; compile your own models that have deformable layers with
    `scale_learning_rates(keras.optimizers.Adam(1e-3))`. Works with every Keras optimizer, with decoupled weight decay,
    loss scaling and `tf.distribute`. The optimizer keeps its class, so it is saved and loaded as usual; pass it through
    this function again after loading.

    Args:
        optimizer: changed in place. Doing it twice has no further effect.

    Returns:
        The same optimizer.

    Example:
        >>> model.compile(optimizer=tf_dcnv2.optimizers.scale_learning_rates(keras.optimizers.SGD(0.02, momentum=0.9)))
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # a LossScaleOptimizer delegates the updates
    if getattr(inner, "scales_learning_rates", False):
        return optimizer
    update_step, use_weight_decay = inner.update_step, inner._use_weight_decay

    def multiplier_of(variable) -> float:
        # Under tf.distribute an update sees a replica's tf.Variable; the attribute is on the Keras variable.
        known = inner._trainable_variables[inner._get_variable_index(variable)]
        return getattr(known, "learning_rate_multiplier", 1.0)

    def scaled_update_step(gradient, variable, learning_rate):
        multiplier = multiplier_of(variable)
        if multiplier != 1.0:
            learning_rate = learning_rate * multiplier
            if inner.weight_decay and use_weight_decay(variable):
                inner.assign_sub(variable, variable * inner.weight_decay * learning_rate)
        return update_step(gradient, variable, learning_rate)

    inner.update_step = scaled_update_step
    # Decoupled decay multiplies by the learning rate too; scaled variables get theirs in the update above.
    inner._use_weight_decay = lambda variable: multiplier_of(variable) == 1.0 and use_weight_decay(variable)
    inner.scales_learning_rates = True
    return optimizer
