"""Sizes that are Python integers where they are known and scalar tensors where they are not; run-time checks."""

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

# An int where it is static, a scalar int32 tensor where it is known at run time only.
Size: TypeAlias = int | tf.Tensor

# Positions are float32, exact up to this side; indices are int32, and one of them means "outside".
_LARGEST_SIDE = 2**24
_MOST_ROWS = 2**31 - 2


def sizes_of(tensor: tf.Tensor) -> list[Size]:
    """The shape of `tensor`, which has to have a known rank."""
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
        values = (
            value if isinstance(value, str) else tf.convert_to_tensor(value).numpy().tolist()
            for value in (expected, received)
        )
        raise tf.errors.InvalidArgumentError(None, None, "{}. Expected: {}. Received: {}.".format(message, *values))
    return []


def require_shape(name: str, tensor: tf.Tensor, expected: Sequence[Size]) -> list[tf.Operation]:
    """Fails unless `tensor`, of known rank, has the shape `expected`; returns what `require` does."""
    received = tf.shape(tensor)
    return require(
        tf.reduce_all(tf.equal(received, expected)),
        f"{name} has the wrong shape",
        expected=expected,
        received=received,
    )


def require_indexable(name: str, maps: Sequence[tf.Tensor], rows_per_pixel: int = 1) -> list[tf.Operation]:
    """Fails unless the composites can index the pixels of `maps`, each `(B, H, W, C)`; returns what `require` does.

    The custom ops, which count in 64 bits, have a limit on the size of one map only.
    """
    message = (
        f"{name} is too large for the composite implementation, which indexes at most {_MOST_ROWS} pixels (times "
        f"deformable groups) and {_LARGEST_SIDE} rows or columns"
    )
    if all(level.shape.is_fully_defined() for level in maps):
        rows = sum(level.shape[:3].num_elements() for level in maps) * rows_per_pixel
        if rows > _MOST_ROWS or max(side for level in maps for side in level.shape[1:3]) > _LARGEST_SIDE:
            shapes = ", ".join(str(level.shape) for level in maps)
            raise ValueError(f'{message}. Use implementation="native". Received: {name} of shape {shapes}.')
        return []
    sizes = tf.stack([tf.shape(level, tf.int64)[:3] for level in maps])
    rows = tf.reduce_sum(tf.reduce_prod(sizes, axis=1)) * rows_per_pixel
    fits = (rows <= _MOST_ROWS) & (tf.reduce_max(sizes[:, 1:]) <= _LARGEST_SIDE)
    return require(fits, message, expected="smaller maps", received=sizes)
