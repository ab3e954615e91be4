"""Turns failures into one line on the terminal."""

import errno
import re

_INSTALL_HINT = "pip install 'tf-dcnv2[detection]'"

# TensorFlow surrounds the message of an op with where in the graph it was raised.
_GRAPH_POSITION = re.compile(r"\{\{[^}]*\}\}|\[\[.*?\]\]|\[Op:[^\]]*\].*$", re.DOTALL)

_ADVICE = {
    errno.ENOSPC: "Free some space there, or choose another place, and run the command again.",
    errno.EDQUOT: "Free some space there, or choose another place, and run the command again.",
    errno.EROFS: "Choose another place.",
    errno.EACCES: "Choose another place, or change its permissions.",
}


class UsageError(ValueError):
    """The arguments make no sense together, or name something that does not exist."""


def describe(error: Exception) -> str:
    """The error as one line that says what is wrong and, where that is known, what to do."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; the detection commands need: {_INSTALL_HINT}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        advice = _ADVICE.get(error.errno or 0)
        return f"{error.filename}: {error.strerror}" + (f". {advice}" if advice else "")
    message = " ".join(_GRAPH_POSITION.sub("", str(error)).split())
    if isinstance(error, ValueError | OSError | RuntimeError | ImportError) and message:
        return message
    # Not one of the errors that our own checks raise: say what it is and how to see more.
    return f"{type(error).__name__}: {message or 'no message'} (--debug shows where)"
