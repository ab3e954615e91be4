"""Whether the custom ops are compiled, or the package is installed as Python alone."""

import os
import sys

_CHOICES = {"0": False, "1": True}


class UnknownChoice(ValueError):
    """DCNV2_NATIVE says neither yes nor no."""


def builds_native_ops() -> bool:
    """What the environment variable DCNV2_NATIVE says: 1, 0, or auto, which is 1 on Linux, where the ops are tested.

    Raises:
        UnknownChoice: it says something else.
    """
    choice = os.environ.get("DCNV2_NATIVE", "auto")
    if choice == "auto":
        return sys.platform == "linux"
    if choice not in _CHOICES:
        raise UnknownChoice(f"DCNV2_NATIVE must be auto, 0 or 1. Received: {choice!r}")
    return _CHOICES[choice]
