"""Files that exist whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


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
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory)
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


def is_leftover(name: str) -> bool:
    """Whether a file of this name is one that `atomic_file` was writing when its process was killed."""
    return name.startswith(".") and name.endswith(".tmp")


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
