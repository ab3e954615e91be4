"""Sizes that are Python integers where they are known and scalar tensors where they are not; run-time checks."""

import tensorflow as tf


def sizes_of(tensor: tf.Tensor) -> list:
    """The shape of `tensor` (of known rank), each entry an `int` if static, else a scalar int32 tensor."""
    static = tensor.shape.as_list()
    if None not in static:
        return static
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]


def after(checks: list[tf.Operation], *tensors: tf.Tensor | None) -> list[tf.Tensor | None]:
    """The tensors, available once the `checks` have passed; else a graph might fail elsewhere first, without a name."""
    with tf.control_dependencies(checks):
        return [None if tensor is None else tf.identity(tensor) for tensor in tensors]


def require(condition: tf.Tensor, message: str, *, expected: object, received: object) -> list[tf.Operation]:
    """Fails with `message`, what was expected and what was received unless `condition` holds.

    Returns:
        In a graph, the op that checks, to be made a control dependency of what relies on it (XLA, which has no way to
        fail, leaves it out). In eager mode nothing: the check is over.
    """
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(condition, [f"{message}. Expected:", expected, "Received:", received], summarize=8)]
    if not condition:
        values = (tf.convert_to_tensor(value).numpy().tolist() for value in (expected, received))
        raise tf.errors.InvalidArgumentError(None, None, "{}. Expected: {}. Received: {}.".format(message, *values))
    return []


def require_shape(name: str, tensor: tf.Tensor, expected: list) -> list[tf.Operation]:
    """Fails unless `tensor`, of known rank, has the shape `expected`; returns what `require` does."""
    received = tf.shape(tensor)
    return require(
        tf.reduce_all(tf.equal(received, expected)),
        f"{name} has the wrong shape",
        expected=expected,
        received=received,
    )
