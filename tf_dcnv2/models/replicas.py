"""What the replicas of a model tell each other within a training step, under `tf.distribute`.

A replica sees its share of a batch. What follows from the whole batch has to be the same as if one device computed it.
"""

from collections.abc import Mapping

import tensorflow as tf


def count_replicas() -> int:
    """Among how many replicas a batch is divided; 1 outside of a replica."""
    return 1 if tf.distribute.in_cross_replica_context() else tf.distribute.get_strategy().num_replicas_in_sync


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The mean of the replicas' values of a tensor, on each of them."""
    if count_replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)


def from_all_replicas(value: tf.Tensor) -> tf.Tensor:
    """The tensors `(R, ...)` of all R replicas, on each of them; they are of one shape."""
    context, replicas = tf.distribute.get_replica_context(), count_replicas()
    own = tf.reshape(tf.cast(context.replica_id_in_sync_group, tf.int32), [1, 1])
    # Their sum, since `all_gather` does not work eagerly.
    alone = tf.scatter_nd(own, value[None], tf.concat([[replicas], tf.shape(value)], axis=0))
    return context.all_reduce(tf.distribute.ReduceOp.SUM, alone)


def share_of_logs(value: tf.Tensor) -> tf.Tensor:
    """A scalar of a replica in the form that `fit` averages over replicas: several processes need an axis for that."""
    strategy = tf.distribute.get_strategy()
    several_processes = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return value[None] if several_processes and strategy.extended._in_multi_worker_mode() else value


def on_one_canvas(inputs: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    """Inputs with their `images` `(B, H, W, C)` padded to the largest of all replicas, as those of one batch are."""
    if count_replicas() == 1 or "images" not in inputs:
        return inputs
    images = inputs["images"]
    size = tf.shape(images)[1:3]
    missing = tf.reduce_max(from_all_replicas(size), axis=0) - size
    padding = tf.pad(missing[:, None], [[1, 1], [1, 0]])
    return {**inputs, "images": tf.pad(images, padding)}
