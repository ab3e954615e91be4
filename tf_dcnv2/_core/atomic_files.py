"""Files that exist whole or not at all."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

_LONGEST_NAME = 255  # bytes, on the file systems of Linux and macOS
_LONGEST_SUFFIX = 32


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, text in UTF-8, that is either entirely there or, after a crash, not there at all.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under `path` when the block ends, all at once and safely on the disk.

    Until then, and after an error, a kill or a loss of power, whatever was there before is still there.

    Raises:
        OSError: it cannot be written; the error names `path`, also when the disk is full.
    """
    directory, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(directory, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=hidden_prefix(name), suffix=".tmp", dir=directory)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files private; the result should follow the user's umask like any other file.
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync(directory)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a failed write does not say of what
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def hidden_prefix(name: str) -> str:
    """How the temporary names of a file begin: `.{name}.`, with the name cut so that 32 more bytes still fit."""
    most = _LONGEST_NAME - _LONGEST_SUFFIX - 2
    return f".{os.fsencode(name)[:most].decode(errors='ignore')}."


def leftover_of(name: str) -> str | None:
    """Which file `atomic_file` was writing under the temporary name `name` when its process was killed.

    Returns:
        The file's name, cut as `hidden_prefix` cuts it; None if `name` is no such temporary name.
    """
    match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}\.tmp", name)
    return match[1] if match else None


def _sync(directory: str) -> None:
    """Makes a rename survive a loss of power, where the file system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
