"""Passes over a data set in random order, each of which, and each image of it, follows from one seed."""

import random
from collections.abc import Callable

import tensorflow as tf


def in_passes(
    examples_of: Callable[[tf.Tensor], tf.data.Dataset],
    *,
    seed: int | None,
    vary: bool,
    repeat: bool,
    used: int | None = None,
    skipped: int = 0,
    chosen: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Examples of one pass, or of endless ones, each with an int64 seed `(2,)` of its own.

    Pass p of endless ones is the same whatever is skipped.

    Args:
        examples_of: makes the examples of a pass, in an order that follows from an int64 scalar.
        seed: what all else follows from; None for chance.
        vary: whether iterating once more over a single pass gives another one.
        repeat: whether pass follows on pass.
        used: how many examples of each pass are used; None for all.
        skipped: how many examples are left out at the beginning, as many as there are in a pass, or more.
        chosen: whether the example at an index of the pass is used here; None for all.
    """
    if repeat:
        base = random.getrandbits(62) if seed is None else seed
        first, rest = divmod(skipped, used) if used else (0, 0)
        numbers = tf.data.Dataset.range(first, tf.int64.max)
        passes = numbers.map(lambda number: (_seed_of_pass(base, number), tf.where(number == first, rest, 0)))
    elif vary:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
        passes = seeds.map(lambda pass_seed: (pass_seed, 0))
    else:
        passes = tf.data.Dataset.from_tensors((tf.constant(seed or 0, tf.int64), 0))

    def of_pass(pass_seed: tf.Tensor, left_out: tf.Tensor) -> tf.data.Dataset:
        # Of the graph of this function: or TensorFlow would mix its global seed, which is none of ours, into the order.
        tf.random.set_seed(1)
        examples = examples_of(pass_seed).enumerate()
        if used is not None:
            # To the end of the pass: a cache that is not read to its end is not kept.
            examples = examples.filter(lambda index, _: index < used)
        examples = examples.skip(tf.cast(left_out, tf.int64))
        if chosen is not None:
            examples = examples.filter(lambda index, _: chosen(index))
        return examples.map(lambda index, example: (example, tf.stack([pass_seed, index])))

    return passes.flat_map(of_pass)


def _seed_of_pass(base: int, number: tf.Tensor) -> tf.Tensor:
    seed = tf.stack([tf.constant(base, tf.int64), number])
    return tf.random.stateless_uniform([], seed, maxval=tf.int64.max, dtype=tf.int64)
