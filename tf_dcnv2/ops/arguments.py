"""Checks and normal forms of the arguments that operators and layers share.

Everything here works on Python values and static shapes, and raises `ValueError` with the argument's name, what was
received and what was expected. Sizes known only at run time are checked by the operators themselves.
"""

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]

# Sizes beyond this are mistakes, and would overflow the operators' 32-bit arithmetic.
_LARGEST = 2**31 - 1


def integer(value: object, name: str, *, minimum: int, maximum: int = _LARGEST) -> int:
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
    values = tuple(value) if _is_sequence(value) else (value, value)
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


def _float(value: object) -> float:
    """`value` as a float; NaN if it is no number, though Python would read it from a string or take a bool for one."""
    try:
        return math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def _range_text(minimum: int, maximum: int) -> str:
    return f"an integer of at least {minimum}" if maximum == _LARGEST else f"an integer from {minimum} to {maximum}"


def output_size(value: object) -> tuple[int, int]:
    """The bins of RoI pooling, (rows, columns). The limit, far beyond any use, keeps the cost of one RoI finite."""
    return pair(value, "output_size", maximum=1024)


def sampling_ratio(value: object, *, minimum: int = 0) -> int:
    """The samples of RoI pooling per bin and axis; limited like `output_size`."""
    return integer(value, "sampling_ratio", minimum=minimum, maximum=128)


def weights_shape(shape: tuple[int, ...], received: str) -> tuple[int, ...]:
    """`shape` of a layer's variable, refused if it has more elements than any machine could want."""
    if math.prod(shape) > _LARGEST:
        raise ValueError(
            f"A variable of the layer would have {math.prod(shape)} elements, {'x'.join(map(str, shape))}; at most "
            f"{_LARGEST} are possible. Received: {received}."
        )
    return shape


def spatial_scales(value: object) -> tuple[float, ...]:
    """One positive number, or one a feature level, as a tuple."""
    scales = tuple(_float(scale) for scale in (value if _is_sequence(value) else [value]))
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(
            "spatial_scale must be a positive number, feature pixels per image pixel, or a list with one a level. "
            f"Received: spatial_scale={value!r}."
        )
    return scales


def padding_mode(padding: Padding) -> tuple[str, tuple[int, ...]]:
    """Splits any accepted form of `padding` into a mode and explicit (top, bottom, left, right) pixels.

    Returns:
        ("SAME", ()), ("VALID", ()) or ("EXPLICIT", (top, bottom, left, right)).
    """
    if isinstance(padding, str):
        if padding.lower() in ("same", "valid"):
            return padding.upper(), ()
    else:
        try:
            sides = padding if _is_sequence(padding) else (padding, padding)
            rows, columns = (pair(side, "padding", minimum=0) for side in sides)
            return "EXPLICIT", (*rows, *columns)
        except ValueError:
            pass
    raise ValueError(
        'padding must be "same", "valid", an integer of at least 0, a pair (rows, columns), or '
        f"((top, bottom), (left, right)). Received: padding={padding!r}."
    )


def _rounded_up(length, divisor: int):
    """`length / divisor`, rounded up, for natural numbers; ints or scalar tensors.

    Not `-(-length // divisor)`: a graph that is converted to ONNX rounds negative quotients towards zero.
    """
    least = tf.minimum if tf.is_tensor(length) else min
    return length // divisor + least(length % divisor, 1)


def conv_output_length(length, taps, stride: int, dilation: int, mode: str, explicit: Sequence[int]):
    """Output pixels of a convolution along one axis, `explicit` = (before, after) pixels.

    Sizes may be ints or scalar tensors. A result below 0 means that the window does not fit the padded input.
    """
    if mode == "SAME":
        return _rounded_up(length, stride)
    return (length + sum(explicit) - ((taps - 1) * dilation + 1) + stride) // stride


def same_padding(length, taps, stride: int, dilation: int) -> tuple:
    """TensorFlow's and Keras' "same" padding along one axis: pixels (before, after), ints if the sizes are."""
    missing = (_rounded_up(length, stride) - 1) * stride + (taps - 1) * dilation + 1 - length
    total = max(missing, 0) if isinstance(missing, int) else tf.maximum(missing, 0)
    return total // 2, total - total // 2


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
