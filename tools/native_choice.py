"""Whether the custom ops are compiled, come from another build, or are left out of the package."""

import os
import sys
from pathlib import Path

LIBRARY = "_dcnv2_ops.so"
BUILD_INFO = "_build_info.json"


class UnknownChoice(ValueError):
    """DCNV2_NATIVE says nothing that can be done."""


def has_native_ops() -> bool:
    """Whether the package is to have custom ops: on Linux, where they are tested, unless DCNV2_NATIVE decides.

    Raises:
        UnknownChoice: it says something else than auto, 0, 1, or a folder with a library.
    """
    choice = _choice()
    return sys.platform == "linux" if choice == "auto" else choice != "0"


def prebuilt_ops() -> Path | None:
    """The folder that DCNV2_NATIVE names, with a library that was built before, such as Bazel's.

    Raises:
        UnknownChoice: as of `has_native_ops`.
    """
    choice = _choice()
    return None if choice in ("auto", "0", "1") else Path(choice).resolve()


def _choice() -> str:
    choice = os.environ.get("DCNV2_NATIVE", "auto")
    if choice in ("auto", "0", "1") or all((Path(choice) / name).is_file() for name in (LIBRARY, BUILD_INFO)):
        return choice
    raise UnknownChoice(
        f"DCNV2_NATIVE must be auto, 0, 1, or a folder with {LIBRARY} and {BUILD_INFO}. Received: {choice!r}"
    )
