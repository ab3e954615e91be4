"""Checks and normal forms of the arguments that operators and layers share.

Everything here works on Python values and static shapes, and raises `ValueError` with the argument's name, what was
received and what was expected. Sizes known only at run time are checked by the operators themselves.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import tensorflow as tf

# Sizes beyond this are mistakes, and would overflow the operators' 32-bit arithmetic.
_LARGEST = 2**31 - 1


def integer(value: Any, name: str, *, minimum: int, maximum: int = _LARGEST) -> int:
    """`value` as an int from `minimum` to `maximum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not minimum <= number <= maximum:
        raise ValueError(f"{name} must be {_range_text(minimum, maximum)}. Received: {name}={value!r}.")
    return number


def pair(value: object, name: str, *, minimum: int = 1, maximum: int = _LARGEST) -> tuple[int, int]:
    """An int, or two of them for (rows, columns), as a tuple of two ints from `minimum` to `maximum`."""
    values = tuple(value) if is_sequence(value) else (value, value)
    try:
        first, second = (integer(one, name, minimum=minimum, maximum=maximum) for one in values)
    except ValueError:
        raise ValueError(
            f"{name} must be {_range_text(minimum, maximum)}, or two of them for (rows, columns). "
            f"Received: {name}={value!r}."
        ) from None
    return first, second


def number(value: object, name: str, requirement: str, fits: Callable[[float], bool] = math.isfinite) -> float:
    """`value` as a finite float that `fits`; `requirement` says in words what is expected."""
    result = _float(value)
    if not (math.isfinite(result) and fits(result)):
        raise ValueError(f"{name} must be {requirement}. Received: {name}={value!r}.")
    return result


def positive(value: object, name: str) -> float:
    """`value` as a finite float above 0."""
    return number(value, name, "a positive number", lambda result: result > 0)


def _float(value: Any) -> float:
    """`value` as a float; NaN if it is no number, though Python would read it from a string or take a bool for one."""
    try:
        return math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether `value` holds several values, one after the other."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def _range_text(minimum: int, maximum: int) -> str:
    return f"an integer of at least {minimum}" if maximum == _LARGEST else f"an integer from {minimum} to {maximum}"


def weights_shape(shape: tuple[int, ...], received: str) -> tuple[int, ...]:
    """`shape` of a layer's variable, refused if it has more elements than any machine could want."""
    if math.prod(shape) > _LARGEST:
        raise ValueError(
            f"A variable of the layer would have {math.prod(shape)} elements, {'x'.join(map(str, shape))}; at most "
            f"{_LARGEST} are possible. Received: {received}."
        )
    return shape


def any_tensor(value: object, name: str, dtype: tf.DType | None = None) -> tf.Tensor:
    """`value` as a tensor."""
    try:
        return tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = "a tensor or an array" if dtype is None else f"a tensor or an array of {dtype.name}"
        raise ValueError(f"{name} must be {wanted}. Received: a {type(value).__name__}. TensorFlow: {error}") from error


def real_tensor(value: object, name: str, dtype: tf.DType | str) -> tf.Tensor:
    """`value`, integers or floating-point numbers, as a tensor of `dtype`."""
    tensor = any_tensor(value, name)
    if not (tensor.dtype.is_floating or tensor.dtype.is_integer):
        raise ValueError(f"{name} must be a tensor of real numbers. Received: {name}.dtype={tensor.dtype.name}.")
    return tf.cast(tensor, dtype)


def float_tensor(value: object, name: str, rank: int) -> tf.Tensor:
    """`value` as a floating-point tensor of `rank` dimensions."""
    tensor = any_tensor(value, name)
    if not tensor.dtype.is_floating:
        raise ValueError(f"{name} must be a floating-point tensor. Received: {name}.dtype={tensor.dtype.name}.")
    return with_rank(tensor, name, rank)


def with_rank(tensor: tf.Tensor, name: str, rank: int) -> tf.Tensor:
    """`tensor`, refused unless it has `rank` dimensions; where that is unknown, the graph checks it at run time."""
    if tensor.shape.rank is None:
        message = f"{name} must have {rank} dimensions"
        with tf.control_dependencies([tf.debugging.assert_equal(tf.rank(tensor), rank, message)]):
            tensor = tf.identity(tensor)
        tensor.set_shape([None] * rank)
        return tensor
    if tensor.shape.rank != rank:
        raise ValueError(
            f"{name} must have {rank} dimensions, it has {tensor.shape.rank}. Received: {name}.shape={tensor.shape}."
        )
    return tensor


def coordinate_dtype(dtype: tf.DType) -> tf.DType:
    """The type of positions for features of `dtype`: never below float32."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def coordinates(value: object, name: str, rank: int, dtype: tf.DType) -> tf.Tensor:
    """`value` (boxes, offsets, masks) as a tensor of `rank` dimensions in `dtype`, the coordinate type."""
    return with_rank(real_tensor(value, name, dtype), name, rank)


def indices(value: object, name: str) -> tf.Tensor:
    """`value` as an int32 vector. What int32 does not hold becomes -1, which is no valid index either."""
    tensor = any_tensor(value, name)
    if not tensor.dtype.is_integer and tensor.shape.num_elements() != 0:
        raise ValueError(f"{name} must hold integers. Received: {name}.dtype={tensor.dtype.name}.")
    index = tf.cast(tensor, tf.int32)
    if tensor.dtype.is_integer and tensor.dtype.max > _LARGEST:
        index = tf.where(tf.cast(index, tensor.dtype) == tensor, index, -1)
    return with_rank(index, name, 1)
