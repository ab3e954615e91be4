"""Refuses to write where something would be lost, before any work is done."""

import os
import tempfile
from collections.abc import Iterable

Path = str | os.PathLike


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Checks that no file to be written is one that is read, under whatever name.

    Args:
        outputs: files that a command is going to write.
        inputs: files that it reads.

    Raises:
        FileExistsError: an output is an input; the message names both.
    """
    known = {_identity(path): os.fspath(path) for path in inputs}
    for path in outputs:
        if (same := known.get(_identity(path))) is not None:
            alias = "" if os.fspath(path) == same else f" ({os.fspath(path)} is the same file)"
            raise FileExistsError(f"The output would overwrite the input {same}{alias}. Choose another output.")


def refuse_foreign(path: Path, is_ours: bool, what: str) -> None:
    """Checks that a file which exists at `path` is an earlier output, and may be replaced.

    Args:
        path: file that a command is going to write.
        is_ours: whether what is there now was written by the same command.
        what: what the command writes there.

    Raises:
        FileExistsError: there is something else.
    """
    if os.path.lexists(path) and not is_ours:
        raise FileExistsError(f"{os.fspath(path)} exists and is not {what}. Choose another output, or move that file.")


def ensure_writable(path: Path) -> None:
    """Checks that a file can be written at `path`, and makes its folder.

    Raises:
        OSError: it cannot; the message names it.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(
            f"{os.path.abspath(path)} is a folder; a file is to be written there. Choose another output."
        )
    ensure_creatable(path)


def ensure_creatable(path: Path) -> None:
    """Checks that a file or a folder can be made at `path`, and makes the folder around it.

    Raises:
        OSError: it cannot; the message names it.
    """
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}. Choose another output.") from error


def _identity(path: Path) -> tuple:
    """The same for all names of a file; a file that does not exist has only its name."""
    try:
        status = os.stat(path)
    except OSError:
        return (os.path.realpath(path),)
    return (status.st_dev, status.st_ino)
