"""Ways in which an argument can be wrong, by the kind of argument."""

import numpy as np
import tensorflow as tf


def pick(rng: np.random.Generator, choices: list) -> object:
    """One of `choices`, as it is: NumPy's own choice would make an array of them."""
    return choices[rng.integers(len(choices))]


HUGE = [2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 10**30]
NOT_NUMBERS = [None, "3", "", b"x", [], {}, object(), [None], [1, 2, 3], [[1], [2, 3]], 1j]


def corrupt_tensor(rng, value):
    """An array that differs from `value` in rank, sizes, type or values, or is none at all."""
    if value is None:
        return np.zeros(rng.integers(0, 4, rng.integers(0, 6)), np.float32)
    array = np.asarray(value)
    way = rng.integers(10)
    if way == 0:
        return pick(rng, [*NOT_NUMBERS, np.nan, "abc", tf.ragged.constant([[1.0], []]), tf.sparse.eye(3), 7])
    if way == 1 and array.ndim:
        return array.reshape(array.shape[:-2] + (-1,)) if array.ndim > 1 and array.size else array.sum(axis=0)
    if way == 2:
        return np.expand_dims(array, int(rng.integers(array.ndim + 1)))
    if way == 3:
        names = ["int32", "int64", "uint8", "float16", "float64", "bool", "complex64", "str", "bfloat16", "uint64"]
        name = pick(rng, names)
        return tf.cast(array, tf.bfloat16) if name == "bfloat16" else array.astype(name)
    if way == 4 and array.size and array.dtype.kind == "f":
        wild = [np.nan, np.inf, -np.inf, 1e10, -1e30, 0.0, 3e38]
        array = array.copy()
        array.flat[rng.integers(0, array.size, 1 + array.size // 3)] = pick(rng, wild)
        return array
    if array.ndim == 0:
        return array + pick(rng, [1, -1, np.zeros(3)])
    axis = int(rng.integers(array.ndim))
    sizes = [0, 1, array.shape[axis] + 1, max(array.shape[axis] - 1, 0), 2 * array.shape[axis], 3]
    return np.resize(array, [*array.shape[:axis], pick(rng, sizes), *array.shape[axis + 1 :]]).astype(array.dtype)


def corrupt_tensors(rng, value):
    if rng.integers(5) == 0:
        return pick(rng, [[], None, "abc", value[0], [value], [*value, value[0]], [*value, None], {0: value[0]}])
    changed = list(value)
    changed[rng.integers(len(changed))] = corrupt_tensor(rng, pick(rng, changed))
    return changed


def corrupt_indices(rng, value):
    if value is None or rng.integers(3) == 0:
        return corrupt_tensor(rng, np.zeros(2, np.int32) if value is None else value)
    indices = np.asarray(value).astype(pick(rng, [np.int32, np.int64]))
    if indices.size:
        out_of_range = [-1, 2, 3, 100, 2**31 - 1, -(2**31), 2**32, -(2**63)]
        indices = indices.astype(np.int64)
        indices[rng.integers(indices.size)] = pick(rng, out_of_range)
        if np.abs(indices).max() < 2**31:
            indices = indices.astype(np.int32)
    return indices


def corrupt_count(rng, value):
    return pick(rng, [0, -1, -(2**31), -(2**63), 3, 5, 7, 1.5, np.nan, True, np.int64(2), *HUGE, *NOT_NUMBERS])


def corrupt_pair(rng, value):
    one = corrupt_count(rng, value)
    return pick(rng, [one, (1, one), [one, 1], (1,), (), (1, 1, 1), np.array([2, 2]), np.array([1, 2, 3]), (one, one)])


def corrupt_padding(rng, value):
    one = corrupt_count(rng, value)
    forms = ["SAME", "full", "", one, (one, 1), ((one, 0), (0, 0)), ((0,), (0, 0)), ((0, 0, 0), (0, 0)), [[1, 1]], -1]
    return pick(rng, forms)


def corrupt_list(rng, value):
    one = corrupt_count(rng, value)
    return pick(rng, [one, [], [1], [1, one], [one, one], [1, 1, 1], [0, 0, 0, one], [2, 2, 2, 2], (1, 2), [-1, 1]])


def corrupt_number(rng, value):
    numbers = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 1e-300, np.float32(2), True, *HUGE, *NOT_NUMBERS]
    return pick(rng, numbers)


def corrupt_scale(rng, value):
    one = corrupt_number(rng, value)
    return pick(rng, [one, [one], [0.25, one], [], np.array([0.5, 0.5, 0.5]), "0.25"])


def corrupt_word(rng, value):
    return pick(rng, ["fast", "", "NATIVE", None, 3, b"auto", [], ["auto"], np.nan, "valid", "EXPLICIT"])


def corrupt_flag(rng, value):
    return pick(rng, [not value, None, "yes", 2, [], np.nan])


CORRUPTIONS = {
    "tensor": corrupt_tensor,
    "tensors": corrupt_tensors,
    "indices": corrupt_indices,
    "count": corrupt_count,
    "pair": corrupt_pair,
    "padding": corrupt_padding,
    "list": corrupt_list,
    "number": corrupt_number,
    "scale": corrupt_scale,
    "word": corrupt_word,
    "flag": corrupt_flag,
}
