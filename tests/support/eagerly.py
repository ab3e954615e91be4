"""Training without the graphs that take most of the time of a few steps."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def run_eagerly(wanted: bool = True) -> Iterator[None]:
    """Runs functions of TensorFlow as plain Python meanwhile, those of `tf.data` excepted, or as graphs."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(wanted)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
