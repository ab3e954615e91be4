"""Which of the two implementations of an operator runs: the custom op or plain TensorFlow."""

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Iterator

import tensorflow as tf

from tf_dcnv2.ops import native

IMPLEMENTATIONS = ("auto", "native", "composite")

_portable = contextvars.ContextVar("tf_dcnv2_portable_ops", default=False)
_inference = contextvars.ContextVar("tf_dcnv2_inference_graph", default=False)


@contextlib.contextmanager
def portable_ops() -> Iterator[None]:
    """Within this scope every operator is built from plain TensorFlow ops, whatever its `implementation` says.

    A graph traced here needs no custom-op library: it runs in stock TF Serving, under XLA and on TPUs.

    Example:
        >>> with tf_dcnv2.ops.portable_ops():
        ...     graph = tf.function(model).get_concrete_function(spec)
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


@contextlib.contextmanager
def inference_graph() -> Iterator[None]:
    """Within this scope graphs are traced for exports: they need no gradients, and get no images without pixels.

    An ordinary convolution is one op there, without a conditional around it.
    """
    token = _inference.set(True)
    try:
        yield
    finally:
        _inference.reset(token)


def in_inference_graph() -> bool:
    """Whether the current code is being traced within `inference_graph()`."""
    return _inference.get()


def under_xla() -> bool:
    """Whether the current code is being traced for XLA (`jit_compile=True` or a TPU)."""
    return tf.__internal__.get_enclosing_xla_context() is not None


def choose_implementation(implementation: str) -> str:
    """Resolves "auto" to "native" or "composite", and refuses what cannot work here.

    Raises:
        ValueError: unknown name, or "native" asked for under XLA, for which custom ops have no kernel.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be one of {IMPLEMENTATIONS}. Received: {implementation!r}.")
    if implementation == "composite" or _portable.get():
        return "composite"
    if implementation == "native":
        if under_xla():
            raise ValueError(
                'implementation="native" cannot be compiled by XLA, which has no kernel for custom ops. Use '
                'implementation="auto" or "composite", or jit_compile=False. Received: implementation="native".'
            )
        return "native"
    if under_xla():
        return "composite"
    if not native.is_available():
        _warn_of_composite()
        return "composite"
    return "native"


@functools.cache
def _warn_of_composite() -> None:
    """Says once in a process why its operators are slow."""
    try:
        native.load()
    except native.NativeOpsUnavailable as error:
        warnings.warn(
            f"{error} Until then every operator is computed by TensorFlow's own ops: the same values, slower and with "
            "more memory.",
            RuntimeWarning,
            stacklevel=4,
        )
