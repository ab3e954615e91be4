"""Random calls of the operators and layers in which something is wrong, made to find one that breaks the process.

    python tests/ops/bad_calls/run.py FIRST COUNT SEED

makes the calls numbered FIRST to FIRST + COUNT - 1 of SEED; a call follows from its number and the seed alone. Each
must end in one of two ways: it is valid after all and returns tensors, or it raises one of ERRORS with a message that
names an argument that is wrong. Before each call its number and arguments go to the file that the environment variable
BAD_CALL names, for whoever finds this process dead.

Prints a JSON object: how often the calls ended in which way, and what is to complain about.
"""

import collections
import json
import os
import re
import resource
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from corruptions import CORRUPTIONS
from targets import TARGETS, Target

# ResourceExhaustedError and MemoryError: more memory asked for than there is.
ERRORS = (
    ValueError,
    TypeError,
    MemoryError,
    tf.errors.InvalidArgumentError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnimplementedError,
)
# What TensorFlow says of raw ops by itself: no kernel for such types, and integers of more than 64 bits.
RAW_ERRORS = (*ERRORS, tf.errors.NotFoundError, OverflowError, SystemError)
# Enough for every call that is meant to work; others shall fail for lack of it, not fill the machine.
MEMORY = 8 << 30


def make_call(number: int, seed: int) -> tuple[str, dict[str, object], list[str]]:
    """Name of the target, the arguments, and the names of those that were changed for the worse."""
    rng = np.random.default_rng([seed, number])
    name = list(TARGETS)[rng.integers(len(TARGETS))]
    target = TARGETS[name]
    arguments = target.valid(rng)
    changed = rng.choice(list(target.kinds), rng.choice([1, 1, 1, 2, 3]), replace=False).tolist()
    for argument in changed:
        arguments[argument] = CORRUPTIONS[target.kinds[argument]](rng, arguments[argument])
    return name, arguments, changed


def describe(value: object) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, list) and any(isinstance(part, np.ndarray) for part in value):
        return f"[{', '.join(map(describe, value))}]"
    return repr(value)


def complaint(target: Target, changed: list[str], error: Exception) -> str | None:
    """What is wrong with `error` as an answer to wrong values of the arguments `changed`; None if nothing."""
    if not isinstance(error, RAW_ERRORS if target.is_raw else ERRORS):
        return "not one of the errors to expect"
    if not str(error).strip():
        return "an error without a message"
    # Shapes are checked against each other: any of them may be the one to be named.
    names = [*changed, *(name for name, kind in target.kinds.items() if kind.startswith(("tensor", "indices")))]
    # Keras names its layers' inputs in its own words.
    names += ["[Ii]nputs?"] if target.is_layer else []
    is_named = any(re.search(rf"\b{name}\b", str(error)) for name in names)
    is_tensorflows = target.is_raw or isinstance(error, tf.errors.ResourceExhaustedError | MemoryError)
    return None if is_named or is_tensorflows else "an error that names no argument"


def make_calls(first: int, count: int, seed: int) -> dict[str, object]:
    endings, complaints = collections.Counter(), []
    for number in range(first, first + count):
        name, arguments, changed = make_call(number, seed)
        text = ", ".join(f"{key}={describe(value)}" for key, value in arguments.items())
        text = f"call {number} of seed {seed}: {name}({text}), wrong: {', '.join(changed)}"
        if "BAD_CALL" in os.environ:
            with open(os.environ["BAD_CALL"], "w") as log:
                log.write(text)
        try:
            results = tf.nest.flatten(TARGETS[name].call(**arguments))
            assert all(result is None or result.numpy() is not None for result in results)
            endings["valid"] += 1
        except Exception as error:
            endings[type(error).__name__] += 1
            problem = complaint(TARGETS[name], changed, error)
            if problem:
                complaints.append(f"{problem}: {type(error).__name__}: {str(error)[:500]}\n  {text}")
    return {"endings": dict(endings), "complaints": complaints}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    tf.get_logger().setLevel("ERROR")
    print(json.dumps(make_calls(*map(int, sys.argv[1:]))))
