"""The order in which the images of a pass come together: batches of one shape, and neighbours for copy-paste.

Both follow from the order that they are given, so that a pass that follows from a seed still does.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# How often the aspect ratio doubles from one group to the fourth next; beyond 1 : 2 and 2 : 1 all are alike.
_GROUPS_PER_DOUBLING = 4


def group_by_aspect_ratio(
    examples: tf.data.Dataset, size_of: Callable[..., tf.Tensor], batch_size: int
) -> tf.data.Dataset:
    """Brings together as many images of similar aspect ratio as there are in a batch.

    A group is passed on when it is full; what is left at the end follows, group by group, so that every image of the
    pass still comes once and only the last batches are mixed.

    Args:
        examples: of one pass.
        size_of: height and width `(2,)` of an example.
        batch_size: images of a batch.
    """

    def group(*example: Any) -> tf.Tensor:
        height, width = tf.unstack(tf.cast(size_of(*example), tf.float32))
        steps = tf.math.log(width / height) / math.log(2) * _GROUPS_PER_DOUBLING
        limit = float(_GROUPS_PER_DOUBLING)
        return tf.cast(tf.round(tf.clip_by_value(steps, -limit, limit)), tf.int64)

    return examples.group_by_window(group, lambda _, window: window, window_size=batch_size)


def with_previous(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Pairs each example with the one before it, the first with itself."""
    nothing = tf.nest.map_structure(
        lambda spec: tf.zeros([side or 0 for side in spec.shape], spec.dtype), examples.element_spec
    )

    def step(state: tuple[tf.Tensor, Any], current: Any) -> tuple[Any, Any]:
        is_first, previous = state
        previous = tf.cond(is_first, lambda: current, lambda: previous)
        return (tf.constant(False), current), (current, previous)

    return examples.scan((tf.constant(True), nothing), step)
