"""Files that TensorFlow writes."""

import contextlib
import errno
import os
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def errors_of_files(path: str | os.PathLike) -> Iterator[None]:
    """Turns what TensorFlow raises inside the block where it cannot write into Python's error for that.

    Args:
        path: what is written, for the message: the name that the user knows, not that of a part of it.

    Raises:
        OSError: TensorFlow could not write; the error names `path`.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # The system's reason ends the message, before the name of the op if there is one; its number is lost.
        reason = error.message.partition(" [Op:")[0].rpartition("; ")[2]
        number = next((number for number in errno.errorcode if os.strerror(number) == reason), None)
        if number is None:
            raise
        raise OSError(number, reason, os.fspath(path)) from error
